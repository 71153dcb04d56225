#!/usr/bin/env -S python3 -B
"""Runs the training workload for profile-guided optimisation: `.packages/training/train.py PROGRAM`.

`.packages/build` calls it with an instrumented build. Each kind of work gets about the same time: tokens, keys, bodies of JSON and XML
and of any kind, refusals, HTTP/2 on both sides, TLS, WebSockets; records that are spooled, sent away and verified; policies that are
checked and tested. It ends with an error if an answer is not as it should be. Needs `openssl`.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import hashlib
import json
import random
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CONNECTIONS = 16
ORDER = {"id": "o-1", "created": "2026-11-29T12:00:00Z", "customer": {"name": "Maria Huber", "iban": "AT611904300234573201"},
         "lines": [{"item": f"article {n}", "quantity": n, "price": 10.5 + n} for n in range(1, 15)], "note": None}
LINES = "".join(f'<line sku="A-{n}"><amount>{n}.50</amount></line>' for n in range(1, 61))
INVOICE = f'<invoice xmlns="urn:example:invoice"><number>7</number>{LINES}</invoice>'
RECEIPT = '<receipt xmlns="urn:example:invoice"><number>7</number></receipt>'


def envelope(body):
    return f'<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>{body}</s:Body></s:Envelope>'


ANSWERS = {"files": ("application/octet-stream", secrets.token_bytes(65536)), "invoices": ("application/xml", RECEIPT.encode()),
           "soap": ("text/xml", envelope(RECEIPT).encode())}
OTHERWISE = ("application/json", json.dumps(ORDER).encode())


class Unexpected(Exception):
    """An answer or an exit code that should not be."""


class Server(asyncio.Protocol):
    """The API and the collector of the record: answers every request, and echoes the frames of WebSockets."""

    collected = 0

    def connection_made(self, transport):
        self.transport, self.got, self.switched = transport, b"", False

    def data_received(self, data):
        self.got += data
        while not self.switched and (taken := message(self.got)) is not None:
            head, body, self.got = taken
            self.answer(head, body)
        while self.switched and len(self.got) >= 8 and len(self.got) >= (end := 8 + int.from_bytes(self.got[2:4], "big")):
            self.transport.write(unmasked(self.got[:end]))
            self.got = self.got[end:]

    def answer(self, head, body):
        target = head.split(b" ", 2)[1].decode()
        kind, content = ANSWERS.get(target.split("/")[1], OTHERWISE)
        if key := re.search(rb"(?i)sec-websocket-key: (\S+)", head):
            accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
            self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                                 b"sec-websocket-accept: " + accept + b"\r\n\r\n")
            self.switched = True
            return
        if "/_bulk" in target:
            created = gzip.decompress(body).count(b'{"create"')
            Server.collected += created
            kind, content = "application/json", json.dumps({"errors": False, "items": [{"create": {"status": 201}}] * created}).encode()
        self.transport.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n"
                             f"date: Sun, 29 Nov 2026 12:00:00 GMT\r\nserver: training\r\n\r\n".encode() + content)


def unmasked(frame):
    """A frame with a length of two bytes and a mask of zeros, as a server sends it (RFC 6455 section 5.2)."""
    return bytes([frame[0], frame[1] & 0x7F]) + frame[2:4] + frame[8:]


def message(got):
    """Splits the first message off `got`: head, body and rest; None if it is incomplete."""
    end = got.find(b"\r\n\r\n") + 4
    if end < 4:
        return None
    head = got[:end]
    if b"transfer-encoding: chunked" in head.lower():
        body = b""
        while True:
            line = got.find(b"\r\n", end)
            if line < 0 or len(got) < line + 4 + (size := int(got[end:line], 16)):
                return None
            body, end = body + got[line + 2:line + 2 + size], line + 4 + size
            if size == 0:
                return head, body, got[end:]
    length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
    length = int(length[1]) if length else 0
    return None if len(got) < end + length else (head, got[end:end + length], got[end + length:])


def request(method, target, headers=(), body=b"", chunked=False):
    lines = [f"{method} {target} HTTP/1.1", "host: 127.0.0.1", "user-agent: training", "accept: */*", *headers]
    if chunked:
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[at:at + 4096] for at in range(0, len(body), 4096))) + b"0\r\n\r\n"
        lines.append("transfer-encoding: chunked")
    elif body:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


async def answered(reader):
    """The status and the body of one response."""
    got = await reader.readuntil(b"\r\n\r\n")
    while (taken := message(got)) is None:
        more = await reader.read(1 << 20)
        if not more:
            raise Unexpected("the proxy closed a connection within a response")
        got += more
    return int(taken[0][9:12]), taken[1]


class Work:
    """One kind of work: sends its requests in turn on several connections for the given time. `statuses` are the answers to each."""

    def __init__(self, name, port, requests, statuses=None, tls=None):
        self.name, self.port, self.requests, self.tls = name, port, requests, tls
        self.statuses = statuses or [200] * len(requests)

    async def run(self, seconds):
        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.connection(until)) for _ in range(CONNECTIONS)]
        print(f"{self.name}: {sum(task.result() for task in tasks):,} requests", file=sys.stderr)

    async def connection(self, until):
        done, reader, writer = 0, None, None
        while done == 0 or time.monotonic() < until:
            for one, expected in zip(self.requests, self.statuses, strict=True):
                if writer is None or done % 500 == 0:
                    if writer:
                        writer.close()
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=self.tls, limit=1 << 21,
                                                                   server_hostname="localhost" if self.tls else None)
                writer.write(one)
                status, body = await answered(reader)
                if status != expected:
                    raise Unexpected(f"{self.name}: {status} in place of {expected}: {body.decode(errors='replace')}")
                done += 1
        writer.close()
        return done


async def websockets(port, seconds):
    """Frames of some sizes, to the server and back."""
    frames = [bytes([0x82, 0xFE]) + size.to_bytes(2, "big") + bytes(4) + secrets.token_bytes(size) for size in (126, 1000, 4000)]
    until = time.monotonic() + seconds

    async def one():
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request("GET", "/feed", ["connection: upgrade", "upgrade: websocket", "sec-websocket-version: 13",
                                              f"sec-websocket-key: {base64.b64encode(secrets.token_bytes(16)).decode()}"]))
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101 "):
            raise Unexpected(f"no WebSocket: {head.decode()}")
        done = 0
        while done == 0 or time.monotonic() < until:
            for frame in frames:
                writer.write(frame)
                if await reader.readexactly(len(frame) - 4) != unmasked(frame):
                    raise Unexpected("a frame comes back changed")
                done += 1
        writer.close()
        return done

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(CONNECTIONS)]
    print(f"WebSockets: {sum(task.result() for task in tasks):,} frames", file=sys.stderr)


def free_port():
    """Not one of those that the system gives to connections, which could have it again before the proxy has."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def openssl(*arguments, cwd):
    done = subprocess.run(["openssl", *arguments], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Unexpected(f"openssl: {done.stderr}")


async def token(port, secret):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    basic = base64.b64encode(f"acme-2:{secret}".encode()).decode()
    writer.write(request("POST", "/oauth/token", [f"authorization: Basic {basic}", "content-type: application/x-www-form-urlencoded"],
                         b"grant_type=client_credentials&scope=orders:read+orders:write"))
    status, body = await answered(reader)
    if status != 200:
        raise Unexpected(f"no token: {status} {body.decode()}")
    writer.close()
    return json.loads(body)["access_token"]


async def works(clear, over_tls, edge, secret, trust):
    """Everything that is sent, by kind."""
    bearers = [f"authorization: Bearer {await token(clear, secret)}" for _ in range(50)]
    bearer, key = bearers[0], f"x-api-key: {secret}"
    other = ["x-forwarded-for: 203.0.113.7", "accept-encoding: gzip", "cookie: a=b; c=d",
             "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"]
    order, json_body = json.dumps(ORDER).encode(), ["content-type: application/json"]
    wrong = json.dumps({**ORDER, "lines": [{"item": 7}], "more": True}).encode()
    form = b"id=o-1&customer=%7B%22name%22%3A%22Maria%22%7D&lines=%7B%22item%22%3A%22a%22%2C%22quantity%22%3A1%2C%22price%22%3A2%7D"
    soap = ["content-type: text/xml; charset=utf-8", 'soapaction: "urn:example:service#Send"']
    large = secrets.token_bytes(65536)
    forged = bearer[:-8] + "AAAAAAAA"
    return [
        Work("passed through", clear, [request("GET", "/open/1"), request("GET", "/open/2", other)]),
        Work("tokens", clear, [request("GET", "/orders/1", [bearer]), request("GET", "/orders/2", [bearer, *other])]),
        Work("many tokens", clear, [request("GET", "/orders/1", [one]) for one in bearers]),
        Work("keys", clear, [request("GET", "/orders/1", [key]), request("GET", "/orders/2", [key, "origin: https://app.example.com"])]),
        Work("JSON", clear, [request("POST", "/orders", [bearer, *json_body], order), request("POST", "/orders", [key, *json_body], order, chunked=True)]),
        Work("JSON in responses", clear, [request("GET", "/tenants/t-17/orders?limit=10&status=open&status=shipped", [key])]),
        Work("forms", clear, [request("POST", "/orders", [key, "content-type: application/x-www-form-urlencoded"], form)]),
        Work("XML", clear, [request("POST", "/invoices", ["content-type: application/xml"], INVOICE.encode())]),
        Work("SOAP", clear, [request("POST", "/soap", soap, envelope(INVOICE).encode())]),
        Work("TLS", over_tls, [request("GET", "/orders/1", [bearer]), request("POST", "/orders", [bearer, *json_body], order)], tls=trust),
        Work("HTTP/2", edge, [request("GET", "/orders/1", [bearer]), request("POST", "/orders", [key, *json_body], order)]),
        Work("large bodies over HTTP/2", edge, [request("GET", "/files/a"), request("PUT", "/files/a", body=large)]),
        Work("large bodies", clear, [request("GET", "/files/a"), request("PUT", "/files/a", body=large), request("PUT", "/files/a", body=large, chunked=True)]),
        Work("refusals", clear, [
            request("GET", "/orders/1"), request("GET", "/orders/1", [forged]), request("GET", "/nowhere"), request("DELETE", "/open/1"),
            request("GET", "/tenants/t-18/orders", [key]), request("GET", "/tenants/t-17/orders?limit=1000", [key]),
            request("POST", "/orders", [key, *json_body], wrong), request("POST", "/orders", [key, "content-type: text/plain"], b"order"),
            request("OPTIONS", "/orders/1", ["origin: https://app.example.com", "access-control-request-method: GET"]),
            request("POST", "/invoices", ["content-type: application/xml"], INVOICE.replace("7</n", "x</n").encode()),
        ], statuses=[401, 401, 404, 405, 403, 422, 422, 415, 204, 422]),
    ]


def leaves(exception):
    """The exceptions in a group, and in the groups in it."""
    return sum(map(leaves, exception.exceptions), []) if isinstance(exception, BaseExceptionGroup) else [exception]


async def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--seconds", type=float, default=4, help="for each kind of work; default: %(default)s")
    options = parser.parse_args()
    program, folder = Path(options.program).resolve(), Path(tempfile.mkdtemp(prefix="bartizan-training-"))
    try:
        async with asyncio.timeout(120 + 60 * options.seconds):
            await train(program, folder, options.seconds)
    finally:
        shutil.rmtree(folder)


async def train(program, folder, seconds):
    clear, over_tls, edge, secret = free_port(), free_port(), free_port(), secrets.token_hex(32)
    loop = asyncio.get_running_loop()
    api, collector = [await loop.create_server(Server, "127.0.0.1", 0) for _ in range(2)]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "tls.key", "-out", "tls.crt", cwd=folder)
    openssl("genpkey", "-algorithm", "ed25519", "-out", "audit.pem", cwd=folder)
    openssl("pkey", "-in", "audit.pem", "-pubout", "-out", "audit.pub", cwd=folder)
    values = {"clear": clear, "tls": over_tls, "edge": edge, "secret": secret, "digest": hashlib.sha256(secret.encode()).hexdigest(),
              "upstream": api.sockets[0].getsockname()[1], "collector": collector.sockets[0].getsockname()[1],
              "examples": ROOT / "examples", "config": ROOT / "config"}
    for name in ("policy.yaml", "edge.yaml"):
        text = re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), (HERE / name).read_text())
        (folder / name).write_text(text)
    shutil.copy(HERE / "order.json", folder)
    trust = ssl.create_default_context(cafile=folder / "tls.crt")
    async with running(program, folder, "policy.yaml", clear), running(program, folder, "edge.yaml", edge):
        for work in await works(clear, over_tls, edge, secret, trust):
            await work.run(seconds)
        await websockets(clear, seconds)
    if Server.collected == 0:
        raise Unexpected("no record was collected")
    print(f"records collected: {Server.collected:,}", file=sys.stderr)
    commands(program, folder)


@contextlib.asynccontextmanager
async def running(program, folder, policy, port):
    """A proxy that listens on `port`, and is stopped by SIGTERM, as systemd does."""
    proxy = subprocess.Popen([program, "run", "--policy", policy], cwd=folder)
    try:
        while not is_open(port):
            if proxy.poll() is not None:
                raise Unexpected(f"the proxy ended with {proxy.returncode}")
            await asyncio.sleep(0.05)
        yield
        proxy.send_signal(signal.SIGTERM)
        if code := await asyncio.to_thread(proxy.wait, 60):
            raise Unexpected(f"the proxy ended with {code}")
    finally:
        proxy.kill()


def is_open(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def commands(program, folder):
    """Commands that people run by hand, or in CI."""
    def run(*arguments):
        done = subprocess.run([program, *map(str, arguments)], cwd=folder, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise Unexpected(f"`bartizan {' '.join(map(str, arguments))}` ended with {done.returncode}")
    run("audit", "verify", "audit.jsonl", "--public-key", "audit.pub")
    run("audit", "export", "--ocsf", "audit.jsonl")
    for _ in range(10):
        run("check", "policy.yaml")
        run("check", ROOT / "config" / "reference.yaml")
    run("test", *(ROOT / "examples" / "identity-providers").glob("*.test.yaml"), ROOT / "examples" / "browser" / "policy.test.yaml")


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except* Unexpected as group:
        sys.exit("\n".join(f"error: {one}" for one in leaves(group)))
