// A WebSocket server that sends back what it gets. Prints its port; ends with its standard input.
import { WebSocketServer } from "ws";

const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: { threshold: 0 }, maxPayload: 1 << 24 });

server.on("listening", () => console.log(server.address().port));
server.on("connection", (socket) => {
  socket.on("error", () => {});
  socket.on("message", (data, binary) => {
    const text = binary ? "" : data.toString();
    if (text.startsWith("close ")) {
      const [, code, ...reason] = text.split(" ");
      socket.close(Number(code), reason.join(" "));
    } else if (text === "ping me") {
      socket.once("pong", (payload) => socket.send(`pong ${payload}`));
      socket.ping("from the server");
    } else if (text === "in pieces") {
      socket.send("one ", { fin: false });
      socket.send("two ", { fin: false });
      socket.send("three", { fin: true });
    } else {
      socket.send(data, { binary });
    }
  });
});

process.stdin.resume();
process.stdin.on("end", () => process.exit());
