// What a client of npm can do with a WebSocket. Arguments: URL, token. Prints what it saw as JSON.
import { once } from "node:events";
import WebSocket from "ws";

const [url, token] = process.argv.slice(2);
const said = {};

function open(options = {}) {
  return new WebSocket(url, "chat", { headers: { authorization: `Bearer ${token}` }, ...options });
}

async function echo(socket, data, options) {
  socket.send(data, options);
  const [echoed, binary] = await once(socket, "message");
  return Buffer.compare(Buffer.from(data), echoed) === 0 && binary === Buffer.isBuffer(data);
}

for (const [name, options] of [["plain", { perMessageDeflate: false }], ["compressed", { perMessageDeflate: { threshold: 0 } }]]) {
  const socket = open(options);
  await once(socket, "open");
  said[name] = { protocol: socket.protocol, extensions: socket.extensions.split(";")[0], echoed: 0 };
  for (const size of [0, 1, 125, 126, 127, 65535, 65536, 1 << 20]) {
    said[name].echoed += await echo(socket, "é".repeat(size / 2));
    said[name].echoed += await echo(socket, Buffer.alloc(size, 7));
  }
  // A message in three frames, and one that comes in three.
  socket.send("a", { fin: false });
  socket.send("b", { fin: false });
  socket.send("c", { fin: true });
  said[name].joined = String((await once(socket, "message"))[0]);
  socket.send("in pieces");
  said[name].pieces = String((await once(socket, "message"))[0]);
  socket.ping("from the client");
  said[name].pong = String((await once(socket, "pong"))[0]);
  socket.send("ping me");
  said[name].ping = String((await once(socket, "message"))[0]);
  socket.close(4001, "enough");
  said[name].closed = (await once(socket, "close"))[0];
}

const closed = open();
await once(closed, "open");
closed.send("close 4002 good bye");
const [code, reason] = await once(closed, "close");
said.closed_by_server = [code, String(reason)];

const many = Array.from({ length: 20 }, async () => {
  const socket = open();
  await once(socket, "open");
  let echoed = 0;
  for (let round = 0; round < 20; round += 1) echoed += await echo(socket, `round ${round}`);
  socket.close();
  await once(socket, "close");
  return echoed;
});
said.many = (await Promise.all(many)).reduce((sum, echoed) => sum + echoed, 0);

const refused = new WebSocket(url, { headers: { authorization: "Bearer nothing" } });
const [, response] = await once(refused, "unexpected-response");
said.refused = [response.statusCode, response.headers["content-type"]];
response.destroy();

console.log(JSON.stringify(said));
