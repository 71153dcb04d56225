#!/usr/bin/env python3
"""Soak: full speed with hostile callers among the good ones and a reload every few seconds.

Afterwards it states three things: whether memory comes to rest, whether every answered call has its record, and whether a good
request has failed. Exit code 1 when one of the last two does not hold.

    cargo build --release && benches/soak.py --minutes 1
"""

import argparse
import asyncio
import base64
import collections
import gzip
import hashlib
import hmac
import json
import multiprocessing
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

CLIENTS = 2                    # processes, which share the connections
TICK = 10                      # seconds between reloads
MOST_SLOW = 100                # heads that are under way at the same time, for each process
ISSUER = "https://soak.example"
BOMB = gzip.compress(b" " * 16 * 1024 * 1024, mtime=0)

POLICY = """\
version: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
timeouts: {{ request_headers: 2s, drain: 5s }}
auth:
  issuers: {{ soak: {{ issuer: "{issuer}", audience: [orders], algorithms: [HS256], max_lifetime: 1d, secret: "{secret}", default_plan: all }} }}
plans: {{ all: {{ rate: 1000000/s }} }}
apis:
  orders:
    upstream: "http://127.0.0.1:{upstream}"
    routes:
      GET /orders/{{id}}: {{ scopes: [orders:read] }}
      POST /orders: {{ scopes: [orders:read], request: {{ json: order.json, max_size: 64KiB }} }}
      POST /trees: {{ public: true, request: {{ json: tree.json, max_size: 64KiB }} }}
audit: [{{ file: {{ path: audit.jsonl }} }}]
# reload {reload}
"""
ORDER = {"type": "object", "required": ["item"], "properties": {"item": {"type": "string", "maxLength": 20}}}
# Branches that lead back to themselves: without a budget, each level multiplies the work.
KINDS = [{"properties": {"kind": {"const": f"k{n}"}, "in": {"type": "array", "items": {"$ref": "#"}}},
          "required": ["kind"]} for n in range(6)]
TREE = {"oneOf": KINDS}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def token(secret):
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "orders", "sub": "soak", "scope": "orders:read", "iat": now, "exp": now + 86000}
    parts = [{"alg": "HS256", "typ": "at+jwt"}, claims]
    signed = ".".join(encode(json.dumps(part).encode()) for part in parts)
    return f"{signed}.{encode(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


# --- the service behind the proxy ---

class Service(asyncio.Protocol):
    """Answers each request, once its body has arrived."""

    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 11\r\n\r\n{\"ok\":true}"

    def connection_made(self, transport):
        self.transport, self.input = transport, b""

    def data_received(self, data):
        self.input += data
        while (end := self.input.find(b"\r\n\r\n")) >= 0:
            length = 0
            for line in self.input[:end].split(b"\r\n")[1:]:
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
            if len(self.input) < end + 4 + length:
                return
            self.input = self.input[end + 4 + length:]
            self.transport.write(self.ANSWER)


def serve(port):
    async def run():
        server = await asyncio.get_running_loop().create_server(Service, "127.0.0.1", port)
        await server.serve_forever()
    asyncio.run(run())


# --- callers ---

class Failed(Exception):
    """A connection that ended without an answer."""


class Connection:
    def __init__(self, port):
        self.port, self.reader, self.writer = port, None, None

    async def send(self, data):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self):
        """The status of the next answer, whose body is read."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            lines = head.split(b"\r\n")
            fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
            await self.reader.readexactly(int(fields.get(b"content-length", b"0")))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            self.close()
            raise Failed(repr(error)) from error
        if fields.get(b"connection") == b"close":
            self.close()
        return int(lines[0].split(b" ")[1])

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


def request(method, path, fields=(), body=None, agent="answered"):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"User-Agent: soak-{agent}", *fields]
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


class Caller:
    """One connection's worth of requests: most are good, the others are one of the kinds below."""

    def __init__(self, port, bearer, hostile, counts, slow):
        self.connection, self.port, self.hostile, self.counts, self.slow = Connection(port), port, hostile, counts, slow
        self.bearer = f"Authorization: Bearer {bearer}"
        leaf = {"kind": "k5", "in": []}
        for _ in range(5):
            leaf = {"kind": "k5", "in": [leaf, {"kind": "none"}]}
        self.tree = json.dumps(leaf).encode()

    async def once(self):
        if random.random() >= self.hostile:
            await self.good()
            return
        kind = random.choice([self.bad_token, self.gzip_bomb, self.broken_body, self.malformed, self.tree_body,
                              self.slow_head])
        self.counts[f"hostile: {kind.__name__}"] += 1
        try:
            await kind()
        except (Failed, OSError):
            # The proxy may end the connections of those.
            self.counts["hostile: not answered"] += 1
            self.connection.close()

    async def good(self):
        write = random.random() < 0.2
        if write:
            sent = request("POST", "/orders", [self.bearer], b'{"item": "rope"}')
        else:
            sent = request("GET", f"/orders/{random.randrange(1000)}", [self.bearer])
        try:
            await self.connection.send(sent)
            status = await self.connection.answer()
            self.counts["answered"] += 1
        except (Failed, OSError) as error:
            status = repr(error)
            self.connection.close()
        self.counts["good"] += 1
        if status != 200:
            self.counts["good, failed"] += 1
            self.counts[f"good, failed: {status}"] += 1

    async def answered(self, sent):
        await self.connection.send(sent)
        await self.connection.answer()
        self.counts["answered"] += 1

    async def bad_token(self):
        await self.answered(request("GET", "/orders/1", [self.bearer[:-4] + "AAAA"]))

    async def gzip_bomb(self):
        await self.answered(request("POST", "/orders", [self.bearer, "Content-Encoding: gzip"], BOMB))

    async def tree_body(self):
        await self.answered(request("POST", "/trees", [], self.tree))

    async def broken_body(self):
        other = Connection(self.port)
        head = ["Content-Length: 100", "Content-Type: application/json", self.bearer]
        await other.send(request("POST", "/orders", head, agent="left") + b'{"item"')
        other.close()

    async def malformed(self):
        other = Connection(self.port)
        await other.send(b"GET /orders/1 HTTP/1.1\r\nHost: localhost\r\nno colon\r\n\r\n")
        await other.answer()
        other.close()

    async def slow_head(self):
        """Goes on beside the others: it waits until the proxy gives up."""
        async def drip():
            other = Connection(self.port)
            try:
                await other.send(b"GET /orders/1 HTTP/1.1\r\nHost: ")
                await other.answer()
            except (Failed, OSError):
                pass
            other.close()
        if len(self.slow) < MOST_SLOW:
            task = asyncio.create_task(drip())
            self.slow.add(task)
            task.add_done_callback(self.slow.discard)


def call(port, bearer, connections, hostile, until, results):
    async def run():
        counts, slow = collections.Counter(), set()

        async def caller():
            one = Caller(port, bearer, hostile, counts, slow)
            while time.time() < until:
                await one.once()
            one.connection.close()

        await asyncio.gather(*(caller() for _ in range(connections)))
        await asyncio.gather(*slow)
        return counts
    results.put(asyncio.run(run()))


# --- the proxy and what it leaves ---

def resident(pid):
    """In KiB."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise SystemExit("the proxy has ended")


class Records:
    """Counts records in files that are moved away before a reload opens new ones, like logrotate."""

    def __init__(self, folder):
        self.folder, self.moved, self.number, self.counts = folder, None, 0, collections.Counter()

    def rotate(self):
        """Moves the current file, and counts the one before, which is not written to any more."""
        self.count()
        self.number += 1
        self.moved = self.folder / f"audit.{self.number}"
        (self.folder / "audit.jsonl").rename(self.moved)

    def count(self, path=None):
        path = path or self.moved
        if path is None:
            return
        with path.open() as lines:
            for line in lines:
                record = json.loads(line)
                self.counts["all"] += 1
                if record.get("user_agent", {}).get("original") == "soak-answered":
                    self.counts["answered"] += 1
        path.unlink()
        self.moved = None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bartizan", default="target/release/bartizan", help="default: %(default)s")
    parser.add_argument("--minutes", type=float, default=1, help="default: %(default)s")
    parser.add_argument("--connections", type=int, default=64, help="default: %(default)s")
    parser.add_argument("--hostile", type=float, default=0.1, help="share of hostile requests; default: %(default)s")
    options = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="bartizan-soak-"))
    secret, port, upstream = os.urandom(32).hex(), free_port(), free_port()

    def write(reload):
        text = POLICY.format(port=port, upstream=upstream, secret=secret, issuer=ISSUER, reload=reload)
        (folder / "policy.yaml").write_text(text)

    (folder / "order.json").write_text(json.dumps(ORDER))
    (folder / "tree.json").write_text(json.dumps(TREE))
    write(0)
    service = multiprocessing.Process(target=serve, args=(upstream,), daemon=True)
    service.start()
    log = (folder / "log").open("w")
    command = [os.path.abspath(options.bartizan), "run", "--policy", "policy.yaml"]
    proxy = subprocess.Popen(command, cwd=folder, stderr=log, stdout=log)
    for _ in range(100):
        with socket.socket() as one, socket.socket() as other:
            if one.connect_ex(("127.0.0.1", port)) == 0 and other.connect_ex(("127.0.0.1", upstream)) == 0:
                break
        if proxy.poll() is not None:
            raise SystemExit(f"the proxy does not start: {(folder / 'log').read_text()}")
        time.sleep(0.1)

    seconds, results = options.minutes * 60, multiprocessing.Queue()
    until = time.time() + seconds
    shares = [options.connections // CLIENTS] * CLIENTS
    shares[0] += options.connections - sum(shares)
    callers = [multiprocessing.Process(target=call, args=(port, token(secret), share, options.hostile, until, results))
               for share in shares]
    for caller in callers:
        caller.start()

    records, sizes, reloads = Records(folder), [], 0
    time.sleep(min(2, seconds / 4))
    sizes.append(resident(proxy.pid))
    while time.time() < until:
        time.sleep(max(0, min(TICK, until - time.time())))
        sizes.append(resident(proxy.pid))
        reloads += 1
        write(reloads)
        records.rotate()
        proxy.send_signal(signal.SIGHUP)

    counts = collections.Counter()
    for _ in callers:
        counts += results.get(timeout=60)
    sizes.append(resident(proxy.pid))
    proxy.terminate()
    code = proxy.wait(timeout=60)
    records.count()
    records.count(folder / "audit.jsonl")
    service.terminate()

    failed, missing = counts["good, failed"], counts["answered"] - records.counts["answered"]
    middle = sizes[len(sizes) // 2]
    print(f"{counts['good']:,} good requests in {seconds:.0f} s ({counts['good'] / seconds:,.0f}/s), {reloads} reloads")
    for name in sorted(name for name in counts if name.startswith("hostile")):
        print(f"  {name}: {counts[name]:,}")
    print(f"RSS: {sizes[0] / 1024:.1f} MiB at the start, {middle / 1024:.1f} in the middle, "
          f"{sizes[-1] / 1024:.1f} at the end, {max(sizes) / 1024:.1f} at most")
    print(f"records: {records.counts['answered']:,} for {counts['answered']:,} answered calls"
          f"{'' if missing == 0 else f': {missing:,} are missing'}; {records.counts['all']:,} in all")
    print(f"good requests that failed: {failed}")
    for name in sorted(name for name in counts if name.startswith("good, failed: ")):
        print(f"  {name}: {counts[name]:,}")
    if failed or missing or code:
        print(f"not as it must be; exit code {code}; its log is {folder / 'log'}", file=sys.stderr)
        return 1
    for path in sorted(folder.iterdir()):
        path.unlink()
    folder.rmdir()
    return 0


if __name__ == "__main__":
    sys.exit(main())
