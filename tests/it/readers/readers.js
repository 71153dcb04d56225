// Reads bodies as busboy does, and queries as node does; input and output are those of readers.py.

const busboy = require('busboy');

const hex = (text) => Buffer.from(text === undefined ? '' : text, 'utf8').toString('hex');

const byName = (pairs) => pairs.sort(([one], [other]) => (one < other ? -1 : one > other ? 1 : 0));

function read(kind, body) {
  return new Promise((resolve) => {
    const pairs = [];
    if (kind === 'query') {
      for (const [name, value] of new URL(`http://x/?${body}`).searchParams) pairs.push([hex(name), hex(value)]);
      return resolve(byName(pairs));
    }
    let parser;
    try {
      // Names are UTF-8, as HTML sends them; its default is ISO-8859-1.
      parser = busboy({ headers: { 'content-type': kind }, defParamCharset: 'utf8' });
    } catch (error) {
      return resolve(String(error));
    }
    parser.on('field', (name, value) => pairs.push([hex(name), hex(value)]));
    parser.on('file', (name, stream) => {
      const chunks = [];
      stream.on('data', (chunk) => chunks.push(chunk));
      stream.on('end', () => pairs.push([hex(name), Buffer.concat(chunks).toString('hex')]));
      stream.on('error', () => {});
    });
    parser.on('error', (error) => resolve(String(error)));
    parser.on('close', () => resolve(byName(pairs)));
    parser.end(body);
  });
}

(async () => {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  const results = [];
  for (const [kind, body] of JSON.parse(Buffer.concat(chunks).toString())) {
    results.push({ busboy: await read(kind, Buffer.from(body, 'hex')) });
  }
  process.stdout.write(JSON.stringify(results));
})();
