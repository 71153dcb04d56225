#!/usr/bin/env python3
"""Many consumers: a million in the store, a hundred thousand in the policy. What a start, a reload and a request cost.

Needs redis-server and redis-cli. It prints one line for each number of consumers.

    cargo build --release && benches/consumers.py
"""

import argparse
import hashlib
import json
import os
import pathlib
import random
import signal
import subprocess
import tempfile
import threading
import time

from limits import ADMIN, Caller, Node, free_port, upstream, wait

CALLS = 20000
LISTEN = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
"""
APIS = """\
roles: {{ reader: [files:read] }}
plans: {{ gold: {{ rate: 100/s, quota: 1000000/month }} }}
apis:
  files:
    upstream: "http://127.0.0.1:{upstream}"
    routes: {{ "GET /": {{ scopes: [files:read] }} }}
audit: none
"""


def key(number):
    """A key that the n-th consumer has; only its digest is stored."""
    return hashlib.sha256(f"{ADMIN}{number}".encode()).hexdigest()


def digest(number):
    return hashlib.sha256(key(number).encode()).hexdigest()


class KeyCaller(Caller):
    """Calls with the keys of many consumers in turn."""

    def __init__(self, node):
        super().__init__(node, "")

    def call(self, number):
        self.request = f"GET / HTTP/1.1\r\nHost: localhost\r\nX-Api-Key: {key(number)}\r\n\r\n".encode()
        self.send(1)


class Running(Node):
    """A node on a policy file, whose start and reloads are timed."""

    def __init__(self, binary, file, port, admin):
        self.port, self.admin = port, admin
        self.log = file.with_suffix(".log")
        begun = time.monotonic()
        self.process = subprocess.Popen([binary, "run", "--policy", file], stdout=subprocess.DEVNULL, stderr=open(self.log, "wb"))
        wait(lambda: self.page() is not None, 300)
        self.started = time.monotonic() - begun

    def reload(self, text):
        """Changes the policy, and returns how long the reload took."""
        before, begun = self.log.read_text().count("the policy was reloaded"), time.monotonic()
        pathlib.Path(self.process.args[3]).write_text(text)
        self.process.send_signal(signal.SIGHUP)
        wait(lambda: self.log.read_text().count("the policy was reloaded") > before, 300)
        return time.monotonic() - begun

    def memory(self):
        """Resident MiB."""
        pages = int(pathlib.Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2 ** 20


def measure(name, node, consumers, text):
    """A thousand of the consumers call."""
    started, fresh = node.started, node.memory()
    caller, chosen = KeyCaller(node), random.Random(7)
    # As many call, however many there are.
    calling = chosen.sample(range(consumers), 1000)
    numbers = [chosen.choice(calling) for _ in range(CALLS)]
    for number in numbers[:2000]:
        caller.call(number)
    before = node.cpu()
    for number in numbers[2000:]:
        caller.call(number)
    cpu = 1e6 * (node.cpu() - before) / (CALLS - 2000)
    reload = node.reload(text + "# changed\n")
    print(f"{consumers} consumers in {name}: start {started:.2f} s, {fresh:.0f} MiB; {cpu:.1f} us of CPU a request, answers "
          f"{caller.counts}; reload {reload:.2f} s; then {node.memory():.0f} MiB", flush=True)
    node.stop()


def in_redis(binary, folder, consumers, answering):
    path = folder / f"redis-{consumers}.sock"
    redis = subprocess.Popen(["redis-server", "--port", "0", "--save", "", "--unixsocket", path], stdout=subprocess.DEVNULL, cwd=folder)
    wait(path.exists)
    made = {"created": "2026-01-01T00:00:00Z", "created_by": "bench"}
    filling = subprocess.Popen(["redis-cli", "-s", path, "--pipe"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def put(kind, identity, value):
        words = [b"HSET", f"{{bartizan}}:{kind}".encode(), identity.encode(), json.dumps(value).encode()]
        filling.stdin.write(b"*4\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words))
    for number in range(consumers):
        put("consumer", f"consumer-{number}", {"name": f"consumer-{number}", "roles": ["reader"], "plan": "gold", **made})
        put("key", f"key-{number}", {"id": f"key-{number}", "consumer": f"consumer-{number}", "sha256": digest(number), **made})
    filling.stdin.close()
    filling.wait()
    port, admin, file = free_port(), free_port(), folder / f"store-{consumers}.yaml"
    store = f'store: {{ redis: "redis+unix://{path}", timeout: 30s, limits: {{ on_failure: local }} }}\n'
    text = (LISTEN + "{store}" + APIS).format(port=port, admin=admin, token=ADMIN, store=store, upstream=answering)
    file.write_text(text)
    node = Running(binary, file, port, admin)
    wait(lambda: "the store was read" in node.log.read_text(), 300)
    measure("Redis", node, consumers, text)
    redis.kill()


def row(number):
    return f'  consumer-{number}: {{ roles: [reader], plan: gold, keys: [{{ id: key-{number}, sha256: "{digest(number)}" }}] }}\n'


def in_files(binary, folder, consumers, files, answering):
    """The consumers are in so many files that the policy includes."""
    port, admin, file = free_port(), free_port(), folder / f"files-{consumers}.yaml"
    (folder / "teams").mkdir()
    for team in range(files):
        rows = "".join(map(row, range(team, consumers, files)))
        (folder / f"teams/{team}.yaml").write_text(f"consumers:\n{rows}")
    text = (LISTEN + "include: [teams/*.yaml]\nstore: state-{port}/\n" + APIS).format(port=port, admin=admin, token=ADMIN, upstream=answering)
    file.write_text(text)
    measure(f"{files} files", Running(binary, file, port, admin), consumers, text)


def in_policy(binary, folder, consumers, answering):
    port, admin, file = free_port(), free_port(), folder / f"policy-{consumers}.yaml"
    rows = "".join(map(row, range(consumers)))
    head = (LISTEN + "store: state-{port}/\n" + APIS).format(port=port, admin=admin, token=ADMIN, upstream=answering)
    text = head.replace("apis:\n", f"consumers:\n{rows}apis:\n")
    file.write_text(text)
    measure("the policy", Running(binary, file, port, admin), consumers, text)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/bartizan")
    options = parser.parse_args()
    binary, answering = os.path.abspath(options.binary), free_port()
    threading.Thread(target=upstream, args=(answering,), daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for consumers in (1000, 1_000_000):
            in_redis(binary, folder, consumers, answering)
        for consumers in (1000, 100_000):
            in_policy(binary, folder, consumers, answering)
        in_files(binary, folder, 100_000, 1000, answering)


if __name__ == "__main__":
    main()
