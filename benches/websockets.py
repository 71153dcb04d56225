#!/usr/bin/env python3
"""Many WebSockets: what an idle one takes, and how fast all of them end when their caller is revoked.

A real proxy runs between as many clients and servers. It prints one line for each figure, and exits with 1 if a promise is broken.

    cargo build --release && benches/websockets.py --binary target/release/bartizan
"""

import argparse
import base64
import contextlib
import datetime
import hashlib
import json
import os
import pathlib
import resource
import secrets
import select
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from record import BROKEN, figure, free_port, is_open, percentile, processes, promise, wait

ADMIN, KEY = secrets.token_hex(32), secrets.token_hex(24)
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
POLICY = """\
version: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
limits: {{ connections: {connections}, per_client: {connections} }}
store: state/
plans: {{ all: {{ rate: 100000/s }} }}
consumers:
  acme: {{ plan: all, keys: [{{ id: acme-1, sha256: "{digest}" }}] }}
apis:
  feed:
    upstream: {{ servers: ["http://127.0.0.1:{upstream}"], connections: {{ most: {connections} }} }}
    routes: {{ "GET /feed": {{ scopes: [], upgrade: {{ websocket: {{ idle: 1h }} }} }} }}
audit: [{{ file: {{ path: audit.jsonl }} }}]
"""


def files():
    """Each side has a socket for each WebSocket, and the proxy two."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def server(port):
    """Switches every connection to WebSocket, echoes what it is sent, and waits."""
    files()
    waiting = selectors.DefaultSelector()
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    waiting.register(listener, selectors.EVENT_READ)
    switched = set()
    while True:
        for key, _ in waiting.select():
            if key.fileobj is listener:
                client, _ = listener.accept()
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                waiting.register(client, selectors.EVENT_READ)
                continue
            client = key.fileobj
            with contextlib.suppress(OSError):
                data = client.recv(65536)
                if data and client in switched:
                    client.sendall(bytes([data[0], data[1] & 0x7F]) + data[6:])
                    continue
                if data:
                    name = b"sec-websocket-key: "
                    nonce = data[data.index(name) + len(name):].split(b"\r\n")[0].decode()
                    accept = base64.b64encode(hashlib.sha1((nonce + GUID).encode()).digest()).decode()
                    client.sendall(f"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
                                   f"sec-websocket-accept: {accept}\r\n\r\n".encode())
                    switched.add(client)
                    continue
            waiting.unregister(client)
            switched.discard(client)
            client.close()


def opened(port):
    one = socket.create_connection(("127.0.0.1", port))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.sendall(f"GET /feed HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n"
                f"sec-websocket-key: {base64.b64encode(os.urandom(16)).decode()}\r\nx-api-key: {KEY}\r\n\r\n".encode())
    head = one.recv(4096)
    if not head.startswith(b"HTTP/1.1 101 "):
        raise SystemExit(f"no WebSocket: {head.decode()}")
    return one


def remaining(one):
    """Reads until the connection is closed."""
    data = b""
    one.settimeout(1)
    with contextlib.suppress(TimeoutError):
        while more := one.recv(4096):
            data += more
        return data
    return b"open after " + data


def beside(port, end, times):
    """Sends requests of another client, each after the last, and notes how long each takes. They are refused, so that no server is needed."""
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while not end.is_set():
            begun = time.monotonic()
            one.sendall(b"GET /feed HTTP/1.1\r\nhost: a\r\n\r\n")
            while not one.recv(4096).endswith(b"}"):
                pass
            times.append(time.monotonic() - begun)
            time.sleep(0.001)


def resident(process):
    text = pathlib.Path(f"/proc/{process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) * 1024


def cpu(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(port, method, path, body=None):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method,
                                     data=None if body is None else json.dumps(body).encode())
    request.add_header("authorization", f"Bearer {ADMIN}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def run(options, folder):
    port, admin, upstream = free_port(), free_port(), free_port()
    pathlib.Path(folder, "policy.yaml").write_text(POLICY.format(
        port=port, admin=admin, upstream=upstream, token=ADMIN, digest=hashlib.sha256(KEY.encode()).hexdigest(),
        connections=options.count + 100))
    behind = processes.Process(target=server, args=(upstream,), daemon=True)
    behind.start()
    wait(lambda: is_open(upstream), "the server behind the proxy")
    log = open(pathlib.Path(folder, "log"), "wb")
    proxy = subprocess.Popen([os.path.abspath(options.binary), "run", "--policy", "policy.yaml"], cwd=folder, stderr=log, stdout=log)
    try:
        wait(lambda: proxy.poll() is not None or is_open(port), "the proxy")
        if proxy.poll() is not None:
            raise SystemExit(pathlib.Path(folder, "log").read_text())
        first = [opened(port) for _ in range(200)]
        before = resident(proxy)
        clients = first + [opened(port) for _ in range(options.count - len(first))]
        time.sleep(2)
        after, used = resident(proxy), cpu(proxy)
        each = (after - before) / (options.count - len(first)) / 1024
        figure(f"{options.count:,} WebSockets: {after / 2**20:.1f} MiB in all, {each:.1f} KiB for each that is idle")
        promise(each <= 12, f"an idle WebSocket takes at most 12 KiB: {each:.1f}")
        time.sleep(10)
        figure(f"CPU of the proxy while they are idle: {(cpu(proxy) - used) * 10:.1f} % of a core")
        clients[-1].sendall(b"\x81\x84\0\0\0\0ping")
        assert clients[-1].recv(100) == b"\x81\x04ping"
        # Clients and servers are other machines elsewhere, so here they leave the cores to the proxy: the server is stopped, and the client
        # only notes, every 2 ms, which WebSockets have been sent their Close frame.
        told = select.epoll(options.count)
        for one in clients:
            told.register(one, select.EPOLLIN | select.EPOLLONESHOT)
        end, times = threading.Event(), []
        other = threading.Thread(target=beside, args=(port, end, times), daemon=True)
        other.start()
        os.kill(behind.pid, signal.SIGSTOP)
        try:
            begun = time.monotonic()
            ask(admin, "POST", "/v1/revocations", {"consumer": "acme"})
            answered, ends = time.monotonic(), []
            while len(ends) < options.count and time.monotonic() < answered + 30:
                time.sleep(0.002)
                ready = len(told.poll(0, options.count))
                ends += [time.monotonic() - answered] * ready
            wait(lambda: b"bartizan_websockets 0\n" in ask(admin, "GET", "/metrics"), "the last connection to be closed")
            figure(f"all connections were closed after {(time.monotonic() - answered) * 1000:.0f} ms")
            end.set()
            other.join(30)
            figure(f"another client meanwhile: {len(times):,} requests, p50 {percentile(sorted(times), 50) * 1000:.1f} ms, "
                   f"longest {max(times, default=0) * 1000:.1f} ms")
        finally:
            os.kill(behind.pid, signal.SIGCONT)
        figure(f"revoked: answered after {(answered - begun) * 1000:.1f} ms; {len(ends):,} were told, p50 {percentile(ends, 50) * 1000:.1f} ms, "
               f"p99 {percentile(ends, 99) * 1000:.1f} ms, last {ends[-1] * 1000 if ends else 0:.1f} ms after that")
        promise(percentile(ends, 99) <= 0.1, "nothing passes any more at most 100 ms (p99) after the revocation")
        last = {remaining(one) for one in clients}
        promise(last == {b"\x88\x09\x03\xf0revoked"}, f"each is told why, and closed: {last}")
    finally:
        proxy.send_signal(signal.SIGTERM)
        proxy.wait(30)
        behind.terminate()
    records = [json.loads(line) for line in pathlib.Path(folder, "audit.jsonl").read_text().splitlines()]
    records = [record for record in records if record.get("http", {}).get("response", {}).get("status_code") != 401]
    actions = [record["event"]["action"] for record in records]
    at = lambda record: datetime.datetime.fromisoformat(record["@timestamp"]).timestamp()
    revoked = next(at(record) for record in records if record["event"]["action"] == "revoked")
    ends = sorted(at(record) + record["event"]["duration"] / 1e9 - revoked for record in records if record["event"]["action"] == "request")
    figure(f"by the record: p50 {percentile(ends, 50) * 1000:.1f} ms, p99 {percentile(ends, 99) * 1000:.1f} ms after the revocation began")
    figure(f"on record: {actions.count('websocket_opened'):,} begins, {actions.count('request'):,} ends")
    promise(actions.count("websocket_opened") == actions.count("request") == options.count, "both are on record for each")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/bartizan")
    parser.add_argument("--count", type=int, default=5000)
    options = parser.parse_args()
    files()
    with tempfile.TemporaryDirectory(prefix="bartizan-websockets-") as folder:
        run(options, folder)
    sys.exit(1 if BROKEN else 0)


if __name__ == "__main__":
    main()
