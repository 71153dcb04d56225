#!/usr/bin/env python3
"""The record under stress: whether it arrives whole and in order, and how fast.

A real proxy with a spool runs before a strict recorder, which takes `_bulk` as Elasticsearch does and finds fault with everything
else. Needs openssl; `full` needs root for a small disk of its own; `elasticsearch` needs wrk. It prints one line for each figure, and
exits with 1 if a promise is broken.

    cargo build --release && benches/record.py outage --seconds 120
"""

import argparse
import array
import base64
import bisect
import collections
import contextlib
import gzip
import hashlib
import hmac
import http.server
import json
import multiprocessing
import os
import pathlib
import random
import re
import secrets
import selectors
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
import zlib

ISSUER = "https://record.example"
SECRET, ADMIN = secrets.token_hex(32), secrets.token_hex(32)
LAST = 60                      # seconds: how long callers wait for their last answers
FSYNC = 1.0                    # seconds, as in the policy
MIB = 1 << 20
POLICY = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
auth:
  issuers: {{ one: {{ issuer: "{issuer}", audience: [files], algorithms: [HS256], max_lifetime: 1d, secret: "{secret}", default_plan: all }} }}
plans: {{ all: {{ rate: 1000000/s }} }}
apis:
  files:
    upstream: "http://127.0.0.1:{upstream}"
    routes: {{ "GET /files/{{id}}": {{ scopes: [files:read] }} }}
audit:
  chain: {{ key: audit.pem, checkpoint: 1s }}
  spool: {{ path: "{spool}", size: {size}, fsync: 1s, on_full: {on_full} }}
  to:
{sinks}
"""
FILE_SINK = "    - file: { path: audit.jsonl }"
SINK = '    - elasticsearch: {{ url: "http://127.0.0.1:{port}", gzip: {gzip}, timeout: 10s }}'


def free_port():
    """Not one of those that the system gives to connections: the recorder comes back to its own."""
    while True:
        port = random.randrange(10_000, 30_000)
        with contextlib.suppress(OSError), socket.socket() as one:
            one.bind(("127.0.0.1", port))
            return port


def is_open(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer():
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "files", "sub": "acme", "scope": "files:read", "iat": now, "exp": now + 86000}
    signed = ".".join(encode(json.dumps(part).encode()) for part in [{"alg": "HS256", "typ": "at+jwt"}, claims])
    return f"{signed}.{encode(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


def wait(condition, what, seconds=60, pause=0.05):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"this did not happen within {seconds} s: {what}")
        time.sleep(pause)


def percentile(values, percent):
    """Of sorted values."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))] if values else 0.0


def mib(size):
    return f"{size / MIB:.1f} MiB"


# They inherit nothing: a listener that another process has as well would not be gone when it is closed.
processes = multiprocessing.get_context("spawn")
BROKEN = []


def promise(holds, text):
    """Remembers a broken promise, and says so at once."""
    if not holds:
        BROKEN.append(text)
        print(f"BROKEN: {text}", flush=True)


def figure(text):
    print(text, flush=True)


# --- the service behind the proxy, and its callers: processes of their own, so that they do not wait for each other ---

def serve(port):
    """Answers every request with as little work as possible."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    listener = socket.create_server(("127.0.0.1", port), backlog=1024)

    def one(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                client.sendall(answer * data.count(b"\r\n\r\n"))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=one, args=(client,), daemon=True).start()


class Call:
    """A connection, and the request that is under way on it."""

    def __init__(self, patience):
        self.socket, self.since, self.patience, self.number, self.due, self.input = None, 0.0, patience, None, 0.0, b""


class Load:
    """Requests at a steady rate, each with a path of its own, one at a time on each connection.

    What is late because no connection is free counts as late: times are from when a request was due.
    """

    def __init__(self, port, token, rate, first, connections, patience):
        self.port, self.rate, self.first = port, rate, first
        self.head = f" HTTP/1.1\r\nHost: localhost\r\nUser-Agent: record\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        # Every second caller gives up, if any does.
        self.calls = [Call(patience if index % 2 else None) for index in range(connections)]
        self.free, self.selector = list(self.calls), selectors.DefaultSelector()
        self.sent = 0
        self.answers = {name: array.array(kind) for name, kind in
                        [("number", "q"), ("at", "d"), ("took", "f"), ("status", "h"), ("since", "d")]}
        self.unanswered, self.open = array.array("q"), array.array("q")

    def run(self, stop):
        due, under_way, end = time.time(), 0, float("inf")
        while True:
            now, stopping = time.time(), stop.is_set()
            if stopping and len(self.free) == len(self.calls):
                return
            end = min(end, now + LAST) if stopping else end
            if now > end:
                self.open.extend(call.number for call in self.calls if call.number is not None)
                return
            while not stopping and self.free and due <= now:
                call = self.free.pop()
                if not self.send(call, due):
                    self.free.append(call)
                    # The proxy is being started again: what nobody could send is not late.
                    due = now + 0.02
                    break
                due += 1 / self.rate
            pause = min(0.02, max(0.0, due - now)) if self.free and not stopping else 0.02
            for key, _ in self.selector.select(pause):
                self.receive(key.data)
            under_way += 1
            if under_way % 64 == 0:
                self.give_up(now)

    def send(self, call, due):
        try:
            if call.socket is None:
                call.socket, call.since = socket.create_connection(("127.0.0.1", self.port)), time.time()
                call.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.selector.register(call.socket, selectors.EVENT_READ, call)
        except OSError:
            self.close(call)
            return False
        call.number, call.due = self.first + self.sent, due
        self.sent += 1
        try:
            call.socket.sendall(b"GET /files/%d" % call.number + self.head)
        except OSError:
            self.lose(call)
        return True

    def receive(self, call):
        try:
            data = call.socket.recv(65536)
        except OSError:
            data = b""
        if not data:
            if call.number is None:
                self.close(call)
            else:
                self.lose(call)
            return
        call.input += data
        head, found, body = call.input.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head, re.I) if found else None
        if not found or (length and len(body) < int(length.group(1))):
            return
        now = time.time()
        for values, value in zip(self.answers.values(), (call.number, now, now - call.due, int(head[9:12]), call.since)):
            values.append(value)
        call.number, call.input = None, b""
        if b"\r\nconnection: close" in head.lower():
            self.close(call)
        self.free.append(call)

    def give_up(self, now):
        for call in self.calls:
            if call.patience and call.number is not None and now - call.due > call.patience:
                self.lose(call)

    def lose(self, call):
        self.unanswered.append(call.number)
        call.number = None
        self.close(call)
        self.free.append(call)

    def close(self, call):
        if call.socket is not None:
            with contextlib.suppress(KeyError):
                self.selector.unregister(call.socket)
            call.socket.close()
        call.socket, call.input = None, b""


def call_for(arguments, stop, results):
    load = Load(*arguments)
    load.run(stop)
    results.put((load.sent, load.answers, load.unanswered, load.open))


# `at` and `since`, when its connection was made, are in seconds since the epoch, `took` is in seconds.
Answer = collections.namedtuple("Answer", "number at took status since")


class Callers:
    """Callers under way."""

    def __init__(self, world, rate, first=0, connections=64, patience=None):
        self.stop, self.results = processes.Event(), processes.Queue()
        arguments = (world.port, world.token, rate, first, connections, patience)
        self.process = processes.Process(target=call_for, args=(arguments, self.stop, self.results), daemon=True)
        self.process.start()

    def end(self):
        """Waits for the last answers: how many were sent, the answers, and the numbers that got none."""
        self.stop.set()
        self.sent, answers, self.unanswered, still = self.results.get(timeout=2 * LAST)
        self.process.join()
        promise(not still, f"every call ends: after {LAST} s {len(still)} are still open, such as {still[:3].tolist()}")
        self.answers = [Answer(*values) for values in zip(*answers.values())]
        return self

    def statuses(self):
        return dict(sorted(collections.Counter(answer.status for answer in self.answers).items()))


# --- the recorder: a data stream of Elasticsearch, as strict as it can be ---

class Away(Exception):
    """The connection ends without a response."""


class Recorder:
    """Takes `_bulk` into one data stream, and remembers every record.

    Modes: `well`; `away`: connections are refused; `busy`: 429; `partly`: every third record is 429, and every seventh 503.
    """

    def __init__(self):
        self.port, self.mode, self.lock = free_port(), "away", threading.Lock()
        self.server, self.connections = None, set()
        self.ids, self.places, self.numbers = set(), collections.defaultdict(set), {}
        self.highest = collections.defaultdict(int)
        self.requests = self.again = self.late = self.doubled = self.out_of_order = self.turned_away = 0
        self.dropped, self.torn, self.faults, self.first_at = 0, 0, [], None

    def switch(self, mode):
        if mode != "away" and self.server is None:
            self.first_at = None
            self.server = self.listen()
            threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        with self.lock:
            self.mode = mode
        if mode == "away" and self.server is not None:
            self.server.shutdown()
            self.server.server_close()
            self.server = None
            for connection in list(self.connections):
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)

    def listen(self):
        recorder = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                super().setup()
                recorder.connections.add(self.connection)

            def finish(self):
                recorder.connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                try:
                    status, answer = recorder.take(self.path, self.headers, body)
                except Away:
                    self.close_connection = True
                    return
                answer = json.dumps(answer).encode()
                head = f"HTTP/1.1 {status} _\r\nContent-Type: application/json\r\nContent-Length: {len(answer)}\r\n\r\n"
                with contextlib.suppress(OSError):
                    self.wfile.write(head.encode() + answer)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            allow_reuse_address, daemon_threads = True, True

            def handle_error(self, *_):
                pass
        return Server(("127.0.0.1", self.port), Handler)

    def take(self, path, headers, body):
        with self.lock:
            if self.mode == "away":
                raise Away
            self.requests += 1
            if self.mode == "busy":
                self.turned_away += 1
                return 429, {"error": {"type": "es_rejected_execution_exception", "reason": "busy"}, "status": 429}
            self.first_at = self.first_at or time.monotonic()
            try:
                return 200, self.bulk(path, headers, body)
            except (AssertionError, ValueError, KeyError, IndexError, EOFError, OSError) as error:
                self.faults.append(repr(error))
                return 400, {"error": {"type": "illegal_argument_exception", "reason": repr(error)}, "status": 400}

    def bulk(self, path, headers, body):
        assert path.split("?")[0] == "/logs-bartizan-default/_bulk", path
        assert headers["content-type"] == "application/x-ndjson", headers["content-type"]
        if headers["content-encoding"] == "gzip":
            body = gzip.decompress(body)
        lines = body.split(b"\n")
        assert lines.pop() == b"" and len(lines) % 2 == 0, "a body must be pairs of whole lines"
        items, last = [], {}
        for action, line in zip(lines[::2], lines[1::2]):
            action, record = json.loads(action), json.loads(line)
            assert list(action) == ["create"] and action["create"] == {"_id": record["event"]["id"]}, action
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", record["@timestamp"]), record["@timestamp"]
            stream, sequence = record["bartizan"]["stream"], record["event"]["sequence"]
            self.out_of_order += sequence <= last.get(stream, 0)
            last[stream] = sequence
            items.append({"create": self.item(record, stream, sequence)})
        return {"errors": any(item["create"]["status"] >= 300 for item in items), "items": items}

    def item(self, record, stream, sequence):
        identity = bytes.fromhex(record["event"]["id"].replace("-", ""))
        if identity in self.ids:
            self.again += 1
            return {"status": 409, "error": {"type": "version_conflict_engine_exception", "reason": "it is there"}}
        if self.mode == "partly" and random.random() < 1 / 3 + 1 / 7:
            self.turned_away += 1
            status = 429 if random.random() < 0.7 else 503
            return {"status": status, "error": {"type": "es_rejected_execution_exception", "reason": "busy"}}
        self.ids.add(identity)
        self.doubled += sequence in self.places[stream]
        self.places[stream].add(sequence)
        self.late += sequence < self.highest[stream]
        self.highest[stream] = max(sequence, self.highest[stream])
        path = record.get("url", {}).get("path", "")
        if path.startswith("/files/"):
            number = int(path[7:])
            self.numbers[number] = self.numbers.get(number, 0) + 1
        self.dropped += record["bartizan"].get("dropped", 0)
        self.torn += "torn" in record["bartizan"].get("chain", {})
        return {"status": 201}

    def holes(self):
        """Places in streams where nothing is."""
        return sum(max(sequences) - len(sequences) for sequences in self.places.values())

    def twice(self):
        """Requests that have more than one record, and places that more than one record has."""
        return sum(count > 1 for count in self.numbers.values()) + self.doubled


def minimal_sink(port):
    """A sink that does no more than count, so that it is never what is waited for."""
    listener = socket.create_server(("127.0.0.1", port), backlog=64)
    item = b'{"create":{"status":201}}'
    while True:
        client, _ = listener.accept()
        rest = b""
        while data := client.recv(4 * MIB):
            rest += data
            head, found, body = rest.partition(b"\r\n\r\n")
            if not found:
                continue
            length = int(re.search(rb"content-length: (\d+)", head, re.I).group(1))
            if len(body) < length:
                continue
            body, rest = body[:length], body[length:]
            if b"content-encoding: gzip" in head.lower():
                body = zlib.decompress(body, 31)
            answer = b'{"errors":false,"items":[' + b",".join([item] * (body.count(b"\n") // 2)) + b"]}"
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


# --- the proxy ---

class Proxy:
    """A process with the policy of its world."""

    def __init__(self, world, before=()):
        self.world, self.log = world, open(world.folder / "log", "ab")
        command = [*before, world.binary, "run", "--policy", "policy.yaml"]
        self.process = subprocess.Popen(command, cwd=world.folder, stdout=self.log, stderr=self.log)

    def ready(self):
        def answers():
            if self.process.poll() is not None:
                raise SystemExit(f"the proxy does not start: {(self.world.folder / 'log').read_text()[-2000:]}")
            return self.page() is not None
        wait(answers, "the proxy answers")
        return self

    def page(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.world.admin}/metrics", headers={"authorization": f"Bearer {ADMIN}"})
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def metric(self, name):
        """Its sum over all labels; absent while the proxy does not answer."""
        page = self.page()
        lines = re.findall(rf"^bartizan_{name}(?:{{[^}}]*}})? (\S+)$", page or "", re.M)
        return sum(map(float, lines)) if page is not None else None

    def lag(self):
        lag = self.metric("audit_sink_lag_records")
        return int(1 if lag is None else lag)

    def is_full(self):
        """Whether its spool takes no more: requests wait or are refused, or records are dropped."""
        return self.metric("audit_failing") == 1 or (self.metric("audit_dropped_total") or 0) > 0

    def caught_up(self, seconds):
        wait(lambda: self.lag() == 0, "the sinks have everything", seconds)

    def resident(self):
        """In bytes."""
        return int(re.search(r"^VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{self.process.pid}/status").read_text(), re.M).group(1)) * 1024

    def cpu(self):
        """Seconds of CPU so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        code = self.process.wait(timeout=60)
        self.log.close()
        return code


class World:
    """A folder with a policy, its key, and a service behind the proxy."""

    def __init__(self, binary, folder):
        self.binary, self.folder = binary, pathlib.Path(folder)
        self.port, self.admin, self.upstream, self.token = free_port(), free_port(), free_port(), bearer()
        key, public = self.folder / "audit.pem", self.folder / "audit.pub"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        self.service = processes.Process(target=serve, args=(self.upstream,), daemon=True)
        self.service.start()
        wait(lambda: is_open(self.upstream), "the service behind the proxy listens")

    def policy(self, *sinks, size="4GiB", on_full="wait", spool="spool"):
        text = POLICY.format(port=self.port, admin=self.admin, token=ADMIN, issuer=ISSUER, secret=SECRET, upstream=self.upstream,
                             size=size, on_full=on_full, spool=spool, sinks="\n".join(sinks))
        (self.folder / "policy.yaml").write_text(text)

    def segments(self):
        return sorted((self.folder / "spool").glob("*.jsonl"))

    def spool_size(self):
        return sum(path.stat().st_size for path in self.segments())

    def verify(self, *arguments, signed=True):
        """Whether records are whole; and what `audit verify` says: a summary, or else all of it."""
        key = ["--public-key", self.folder / "audit.pub"] if signed else []
        done = subprocess.run([self.binary, "audit", "verify", "--format", "json", *key, *arguments], capture_output=True, text=True)
        if done.returncode:
            return False, (done.stdout + done.stderr).strip()
        said = json.loads(done.stdout)
        return True, f"{said['lines']:,} lines in {len(said['streams'])} streams, {said['checkpoints']} checkpoints"


@contextlib.contextmanager
def world_of(options):
    with tempfile.TemporaryDirectory(prefix="bartizan-record-", dir=options.folder) as folder:
        world = World(os.path.abspath(options.binary), folder)
        try:
            yield world
        finally:
            world.service.terminate()
            if BROKEN and options.keep:
                shutil.copytree(folder, options.keep, dirs_exist_ok=True)


def sink(recorder, zipped=True):
    return SINK.format(port=recorder.port, gzip=str(zipped).lower())


# --- what is measured ---

def outage(options):
    """The sink is away under load, then busy, then takes only a part of each request."""
    with world_of(options) as world:
        recorder = Recorder()
        world.policy(sink(recorder))
        recorder.switch("well")
        proxy = Proxy(world).ready()
        callers, sizes, spooled = Callers(world, options.rate), [], 0

        def watch(seconds):
            nonlocal spooled
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(min(1.0, max(0.0, end - time.monotonic())))
                sizes.append(proxy.resident())
                spooled = max(spooled, world.spool_size())
        watch(5)
        before, away_from = proxy.resident(), time.time()
        recorder.switch("away")
        watch(options.seconds)
        after, away_to, waiting = proxy.resident(), time.time(), proxy.lag()
        back = time.monotonic()
        recorder.switch("well")
        while proxy.lag() > options.rate:
            watch(1)
            if time.monotonic() - back > 60 + options.seconds:
                raise SystemExit(f"the sink does not catch up: {proxy.lag()} records are left")
        caught_up = time.monotonic() - back
        first = recorder.first_at - back
        away_late = recorder.late
        recorder.switch("busy")
        watch(5)
        recorder.switch("partly")
        # Attempts are rare at first, because the sink has been busy.
        before_partly, end = recorder.turned_away, time.monotonic() + 40
        while recorder.turned_away < before_partly + 1000 and time.monotonic() < end:
            watch(1)
        recorder.switch("well")
        watch(5)
        callers.end()
        proxy.caught_up(90)
        promise(proxy.stop() == 0, "the proxy ends with exit code 0")
        report_outage(options, callers, recorder, (away_from, away_to))
        figure(f"RSS: {mib(before)} before, {mib(after)} at the end of the outage, {mib(max(sizes))} at most")
        figure(f"spool: {mib(spooled)} at most; {waiting:,} records waited")
        figure(f"catching up: {caught_up:.1f} s, of which {first:.1f} s until the next attempt; "
               f"{waiting / max(caught_up - first, 0.001):,.0f} records/s beside the load")
        figure(f"bulk requests: {recorder.requests:,}; {recorder.turned_away:,} records or requests were turned away with 429 or 503; "
               f"{recorder.again:,} records were sent again that were there; {recorder.late - away_late:,} came after later ones, "
               "because they had been turned away")
        promise(away_late == 0, f"records come in order when none is turned away: {away_late} came later")
        promise(max(sizes) - before < 32 * MIB, f"memory is flat: {mib(before)} before, {mib(max(sizes))} at most")


def report_outage(options, callers, recorder, away):
    lost = [answer.number for answer in callers.answers if answer.number not in recorder.numbers]
    figure(f"sink away for {options.seconds} s at {options.rate:,}/s: {callers.sent:,} requests sent, answers {callers.statuses()}, "
           f"{len(callers.unanswered)} without an answer")
    figure(f"records: {len(recorder.numbers):,} of requests in the index, {len(lost)} lost, {recorder.twice()} doubled, "
           f"{recorder.out_of_order} out of order within a request, {recorder.holes()} holes in the sequence")
    promise(set(callers.statuses()) == {200} and not callers.unanswered, "requests do not fail when a sink does")
    promise(not lost, f"no record is lost: {len(lost)} are, such as {lost[:3]}")
    promise(recorder.twice() == 0, f"no record is doubled: {recorder.twice()} are")
    promise(recorder.out_of_order == 0, f"sequences ascend within a request: {recorder.out_of_order} do not")
    promise(recorder.holes() == 0, f"the sequence has no holes: {recorder.holes()} are missing")
    promise(not recorder.faults, f"bulk requests are well-formed: {recorder.faults[:3]}")
    for name, (start, end) in [("before the outage", (0, away[0])), ("during the outage", away)]:
        took = sorted(answer.took * 1000 for answer in callers.answers if start <= answer.at < end)
        figure(f"requests {name}: p50 {percentile(took, 50):.2f} ms, p99 {percentile(took, 99):.2f} ms, "
               f"at most {percentile(took, 100):.1f} ms")


def end_of(path):
    """How many bytes of a file are after its last whole line."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MIB))
        data = file.read()
    return len(data) - (data.rfind(b"\n") + 1)


def crashes(options):
    """kill -9 at random moments, under load, while the sink has its own troubles."""
    with world_of(options) as world:
        recorder, generator = Recorder(), random.Random(options.seed)
        world.policy(FILE_SINK, sink(recorder))
        recorder.switch("well")
        proxy, kills, torn, torn_file, halves, before = Proxy(world).ready(), [], 0, 0, 0, None
        callers = Callers(world, options.rate)
        for crash in range(options.count):
            time.sleep(generator.uniform(0.05, 3))
            recorder.switch(generator.choice(["well", "well", "well", "away", "busy", "partly"]))
            kills.append(time.time())
            proxy.stop(signal.SIGKILL)
            segment = world.segments()[-1]
            if end_of(segment) == 0 and crash % 5 == 4:
                # As if the process had been killed within its write: that is rare, because a write is short.
                with segment.open("ab") as file:
                    file.write(b'{"@timestamp":"2026-01-01T00:00:00.000Z","ecs":')
                halves += 1
            # A start that is killed before it has cut leaves the same line.
            half = (segment, segment.stat().st_size) if end_of(segment) > 0 else None
            torn += half is not None and half != before
            before = half
            torn_file += end_of(world.folder / "audit.jsonl") > 0
            proxy = Proxy(world)
            if crash % 10 == 9:
                # Between the cut and the first record that could say so.
                wait(lambda: end_of(segment) == 0, "the half line is cut", pause=0.001)
                kills.append(time.time())
                proxy.stop(signal.SIGKILL)
                proxy = Proxy(world)
            if options.show:
                figure(f"  crash {crash + 1}: {recorder.mode}, torn {end_of(segment)}")
        recorder.switch("well")
        proxy.ready()
        time.sleep(2)
        callers.end()
        proxy.caught_up(120)
        promise(proxy.stop() == 0, "the proxy ends with exit code 0")
        records = report_crashes(world, callers, recorder, kills)
        marks = [record for record in records if record["event"].get("action") == "chain_started"]
        marked = sum("torn" in record["bartizan"]["chain"] for record in marks)
        figure(f"torn lines: {torn} in the spool ({halves} of them made by hand) and {torn_file} in the file, before the next start; "
               f"{marked} are marked; {len(marks)} streams follow another")
        promise(marked == torn, f"every cut is marked: {torn} lines were torn, {marked} are marked")
        promise(len(marks) <= len(kills), "a stream begins for each start at most")
        for name, files in [("file", ["--complete", world.folder / "audit.jsonl"]), ("spool", world.segments())]:
            whole, words = world.verify(*files)
            figure(f"audit verify of the {name}: {words[:500]}")
            promise(whole, f"the chain of the {name} is whole: {words[:2000]}")


def report_crashes(world, callers, recorder, kills):
    """What is on record; returns the records of the file."""
    records, unread = [], 0
    for line in (world.folder / "audit.jsonl").read_bytes().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            unread += 1
    paths = (record.get("url", {}).get("path", "") for record in records)
    in_file = collections.Counter(int(path[7:]) for path in paths if path.startswith("/files/"))
    ids = collections.Counter(record["event"]["id"] for record in records)
    figure(f"kill -9 {len(kills)} times: {len(callers.answers):,} requests answered {callers.statuses()}, "
           f"{len(callers.unanswered)} without an answer")
    for name, there in [("file", in_file), ("index", recorder.numbers)]:
        ages = []
        for answer in callers.answers:
            if answer.number not in there:
                # The process that answered is the one that the connection was made to.
                kill = bisect.bisect_left(kills, answer.since)
                ages.append(kills[kill] - answer.at if kill < len(kills) else float("inf"))
        figure(f"on record in the {name}: {len(there):,}; lost {len(ages)} of those answered, "
               f"the oldest {max(ages, default=0) * 1000:.0f} ms before the kill")
        promise(max(ages, default=0) <= FSYNC, f"nothing older than {FSYNC:g} s is lost in the {name}: {max(ages, default=0):.3f} s")
    twice = sum(count > 1 for count in in_file.values()) + sum(count > 1 for count in ids.values())
    differ = set(in_file) ^ set(recorder.numbers)
    figure(f"doubled: {twice} in the file, {recorder.twice()} in the index; {recorder.again:,} were sent again that were there; "
           f"{len(differ)} in one of them only; {unread} lines of the file are no records; {recorder.holes()} holes in the index")
    promise(twice == 0 and recorder.twice() == 0, f"nothing is doubled: {twice} in the file, {recorder.twice()} in the index")
    promise(not differ, f"file and index have the same records: {len(differ)} differ, such as {sorted(differ)[:3]}")
    promise(unread == 0, f"the file has whole lines only: {unread} are not")
    promise(recorder.holes() == 0, f"the sequence in the index has no holes: {recorder.holes()} are missing")
    promise(not recorder.faults, f"bulk requests are well-formed: {recorder.faults[:3]}")
    promise(recorder.out_of_order == 0, f"sequences ascend within a request: {recorder.out_of_order} do not")
    return records


def full(options):
    """A spool that takes no more: the disk is full, or it has the size that the policy allows."""
    # On a disk of 24 MiB, the second has all lines in one segment, the first in a few.
    limits = {"size": "16MiB", "disk": "64MiB", "disk, one segment": "4GiB"}
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        figure("full: the disk: skipped, because there can be no private mount here (unshare -m as root)")
        limits = {"size": "16MiB"}
    for limit, size in limits.items():
        for on_full in ("wait", "refuse", "drop_and_count"):
            with world_of(options) as world:
                one_full(options, world, (limit, size, on_full))
    stops = [("wait", signal.SIGKILL), ("wait", signal.SIGTERM), ("refuse", signal.SIGTERM), ("drop_and_count", signal.SIGTERM)]
    for on_full, how in stops:
        with world_of(options) as world:
            stopped_while_full(options, world, on_full, how)


def stopped_while_full(options, world, on_full, how):
    """What is not in the spool is only in memory: it must be little, and what is lost must be said."""
    recorder, name = Recorder(), f"full: size, {on_full}, then {how.name}"
    world.policy(sink(recorder), size="16MiB", on_full=on_full)
    proxy = Proxy(world).ready()
    callers = Callers(world, options.rate)
    wait(proxy.is_full, "the spool is full")
    time.sleep(options.seconds)
    at = time.time()
    code = proxy.stop(how)
    took = time.time() - at
    callers.end()
    recorder.switch("well")
    proxy, last = Proxy(world).ready(), Callers(world, 50, first=1 << 40)
    time.sleep(1)
    last.end()
    proxy.caught_up(90)
    proxy.stop()
    lost = [at - answer.at for answer in callers.answers if answer.status == 200 and answer.number not in recorder.numbers]
    there = len(recorder.numbers) - len(last.answers)
    figure(f"{name}: exit code {code} after {took:.1f} s; {callers.sent:,} sent, answers {callers.statuses()}; after the next start "
           f"{there:,} on record, marks say that {recorder.dropped:,} were dropped; lost {len(lost):,} of those answered with 200, "
           f"the oldest {max(lost, default=0):.1f} s before")
    if on_full != "drop_and_count":
        promise(max(lost, default=0) <= FSYNC, f"{name}: nothing older than {FSYNC:g} s is lost: {max(lost, default=0):.1f} s")
    if how == signal.SIGTERM:
        # One that was closed without an answer may never have been read.
        said = there + recorder.dropped
        promise(said >= len(callers.answers),
                f"{name}: on record and dropped, by the marks, are {said}, but {len(callers.answers)} were answered")


def one_full(options, world, case):
    limit, size, on_full = case
    recorder, before, spool, name = Recorder(), [], "spool", f"full: {limit}, {on_full}"
    if limit != "size":
        (world.folder / "disk").mkdir()
        before, spool = ["unshare", "-m", "sh", "-c", 'mount -t tmpfs -o size=24m tmpfs disk && exec "$@"', "sh"], "disk/spool"
    world.policy(sink(recorder), size=size, on_full=on_full, spool=spool)
    proxy = Proxy(world, before).ready()
    # Half of those who wait give up.
    callers = Callers(world, options.rate, patience=3)
    wait(proxy.is_full, "the spool is full")
    time.sleep(options.seconds)
    blocked = proxy.metric("audit_spool_bytes")
    if on_full == "refuse":
        code = refusal(world)
        promise(code == (503, "record_unavailable"), f"{name}: requests are refused with 503 record_unavailable, not {code}")
    recorder.switch("well")
    begun = time.monotonic()
    while proxy.metric("audit_spool_bytes") >= blocked and time.monotonic() < begun + 60:
        time.sleep(0.05)
    freed, lag = time.monotonic() - begun, proxy.lag()
    if freed >= 60:
        promise(False, f"{name}: the spool takes lines again once the sink has them; after {freed:.0f} s, {lag:,} records are on their "
                       f"way, and the spool has {mib(proxy.metric('audit_spool_bytes'))}")
        callers.process.kill()
        proxy.stop(signal.SIGKILL)
        return
    time.sleep(1)
    callers.end()
    # The next record says how many were dropped before it.
    last = Callers(world, 50, first=1 << 40)
    time.sleep(1)
    last.end()
    proxy.caught_up(90)
    counted = int(proxy.metric("audit_dropped_total"))
    promise(proxy.stop() == 0, f"{name}: the proxy ends with exit code 0")
    longest = max((answer.took for answer in callers.answers), default=0)
    figure(f"{name}: {callers.sent:,} requests sent: answers {callers.statuses()}, {len(callers.unanswered):,} gave up after 3 s; "
           f"the longest waited {longest:.1f} s; full at {mib(blocked)}; {freed:.1f} s until there was room")
    report_full(name, on_full, (callers, last), recorder, counted)
    if on_full == "wait":
        promise(longest > options.seconds / 2, f"{name}: requests wait: the longest took {longest:.1f} s")


def refusal(world):
    """Status and code of a refused request that leaves no record of a number."""
    url = f"http://127.0.0.1:{world.port}/files/refused"
    request = urllib.request.Request(url, headers={"authorization": f"Bearer {world.token}"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error).get("code")


def report_full(name, on_full, both, recorder, counted):
    sent, there, numbers = sum(callers.sent for callers in both), len(recorder.numbers), recorder.numbers
    # Beside the callers' own, one was sent to see how it is refused.
    probes = int(on_full == "refuse")
    answers = [answer for callers in both for answer in callers.answers]
    statuses, gave_up = {answer.status for answer in answers}, sum(len(callers.unanswered) for callers in both)
    there_or_counted = there + counted - probes
    figure(f"{name}: {there:,} on record + {counted - probes:,} dropped = {there_or_counted:,} of {sent:,} sent, {len(answers):,} of them "
           f"answered; {recorder.twice()} doubled, {recorder.holes()} holes, {recorder.late} came after later ones")
    promise(there_or_counted == sent, f"{name}: {there_or_counted} are on record or dropped, but {sent} were sent")
    promise(recorder.dropped == counted, f"{name}: marks say that {recorder.dropped} were dropped, the metric says {counted}")
    whole = recorder.twice() + recorder.holes() + recorder.out_of_order == 0 and not recorder.faults
    promise(whole, f"{name}: the index is whole: {recorder.faults[:3]}")
    missing = sum(answer.number not in numbers for answer in answers if answer.status == 200)
    if on_full == "wait":
        promise(statuses == {200} and missing == 0, f"{name}: nothing is refused, and all is on record: {statuses}, {missing} are not")
    if on_full == "refuse":
        holds = statuses == {200, 503} and not gave_up
        promise(holds, f"{name}: requests are refused, and nobody waits: {statuses}, {gave_up} gave up")
        promise(missing == 0, f"{name}: what was not refused is on record: {missing} are not")
    if on_full == "drop_and_count":
        promise(statuses == {200} and not gave_up, f"{name}: all are answered: {statuses}, {gave_up} gave up")
        promise(counted > 0, f"{name}: records are dropped")


def template(options):
    """A record of the proxy, from a short run."""
    with world_of(options) as world:
        world.policy(FILE_SINK)
        proxy, callers = Proxy(world).ready(), Callers(world, 200)
        time.sleep(1)
        callers.end()
        proxy.stop()
        lines = (world.folder / "audit.jsonl").read_bytes().splitlines()
        return next(line for line in lines if b"/files/" in line and b'"previous"' in line)


def verify(options):
    """How fast a long record is verified."""
    line = template(options)
    facts, event = re.fullmatch(rb'(.*"previous":")[0-9a-f]{64}(.*"sequence":)\d+,"hash":"[0-9a-f]{64}"\}\}', line).groups()
    first = facts.removesuffix(b'","previous":"')
    with world_of(options) as world:
        path, previous, kept = world.folder / "audit.jsonl", b"", []
        with path.open("wb", MIB) as out:
            for sequence in range(1, options.lines + 1):
                text = (facts + previous if previous else first) + event + b"%d" % sequence
                previous = hashlib.sha256(text + b"}}").hexdigest().encode()
                out.write(text + b',"hash":"' + previous + b'"}}\n')
        size = path.stat().st_size
        with path.open("rb") as file:
            # Not the disk is measured.
            while file.read(8 * MIB):
                pass
        for _ in range(3):
            begun = time.monotonic()
            used = os.times()
            whole, words = world.verify(path, signed=False)
            took, now = time.monotonic() - begun, os.times()
            cpu = now.children_user + now.children_system - used.children_user - used.children_system
            promise(whole, f"the record is whole: {words[:500]}")
            kept.append(options.lines / cpu)
            figure(f"verify: {options.lines:,} records of {size / options.lines:.0f} bytes in {took:.2f} s, {cpu:.2f} s of CPU: "
                   f"{options.lines / took:,.0f} records/s, {options.lines / cpu:,.0f} a second of CPU")
        promise(statistics.median(kept) >= 500_000, f"verify takes 500,000 records/s: {statistics.median(kept):,.0f} a second of CPU")


def elasticsearch(options):
    """How fast a filled spool is delivered."""
    if not shutil.which("wrk"):
        raise SystemExit("wrk is needed to fill the spool")
    with world_of(options) as world:
        port, processors = free_port(), sorted(os.sched_getaffinity(0))
        named = argparse.Namespace(port=port)
        world.policy(sink(named))
        proxy, begun = Proxy(world).ready(), time.monotonic()
        while proxy.lag() < options.lines:
            url, token = f"http://127.0.0.1:{world.port}/files/1", f"Authorization: Bearer {world.token}"
            subprocess.run(["wrk", "-t1", "-c64", "-d5s", "-H", token, url], check=True, capture_output=True)
        figure(f"elasticsearch: {proxy.lag():,} records, {mib(world.spool_size())}, spooled in {time.monotonic() - begun:.0f} s")
        proxy.stop()
        shutil.copytree(world.folder / "spool", world.folder / "kept")
        server = processes.Process(target=minimal_sink, args=(port,), daemon=True)
        for zipped in (True, False):
            shutil.rmtree(world.folder / "spool")
            shutil.copytree(world.folder / "kept", world.folder / "spool")
            world.policy(sink(named, zipped))
            proxy = Proxy(world, ["taskset", "-c", str(processors[0])] if len(processors) > 1 else []).ready()
            waiting, begun, cpu = proxy.lag(), time.monotonic(), proxy.cpu()
            if server.pid is None:
                server.start()
                if len(processors) > 1:
                    os.sched_setaffinity(server.pid, processors[1:])
            # Seldom: what is asked for is paid for by the proxy.
            while proxy.lag() > 0:
                time.sleep(0.5)
            took, cpu = time.monotonic() - begun, proxy.cpu() - cpu
            figure(f"elasticsearch, gzip {'on' if zipped else 'off'}: {waiting:,} records in {took:.1f} s, {cpu:.2f} s of CPU: "
                   f"{waiting / took:,.0f} records/s, {waiting / cpu:,.0f} a second of CPU; RSS {mib(proxy.resident())}")
            promise(waiting / cpu >= 20_000, f"20,000 records/s a core: {waiting / cpu:,.0f}, gzip {zipped}")
            proxy.stop()
        server.terminate()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/bartizan", help="default: %(default)s")
    parser.add_argument("--folder", help="where to work; default: the system's for temporary files")
    parser.add_argument("--keep", help="where to copy what a run leaves when a promise is broken")
    commands = parser.add_subparsers(dest="command", required=True)

    def command(function, **numbers):
        one = commands.add_parser(function.__name__, help=function.__doc__.splitlines()[0])
        for name, default in numbers.items():
            one.add_argument(f"--{name}", type=type(default), default=default, help="default: %(default)s")
        one.set_defaults(function=function)
        return one
    command(outage, seconds=600, rate=2000)
    command(crashes, count=50, rate=2000, seed=1).add_argument("--show", action="store_true", help="one line for each crash")
    command(full, seconds=8, rate=4000)
    command(verify, lines=2_000_000)
    command(elasticsearch, lines=1_000_000)
    options = parser.parse_args()
    options.function(options)
    return 1 if BROKEN else 0


if __name__ == "__main__":
    sys.exit(main())
