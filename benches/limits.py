#!/usr/bin/env python3
"""Limits that several nodes count together in Redis: how exact they are, and what they cost.

Needs redis-server and redis-cli; with wrk, the highest rate is offered by it, as fast as it can; with libfaketime, the clocks of
some nodes are wrong by 5 s. It prints one line for each figure.

    cargo build --release && benches/limits.py
"""

import argparse
import base64
import glob
import hashlib
import hmac
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

NODES = 4
BATCH = 20                     # requests that are sent at once on one connection
SECRET, ADMIN = secrets.token_hex(32), secrets.token_hex(32)
ISSUER = "https://limits.example"
POLICY = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
{store}
auth:
  issuers: {{ one: {{ issuer: "{issuer}", audience: [files], algorithms: [HS256], max_lifetime: 1d, secret: "{secret}", default_plan: shared }} }}
plans: {{ shared: {{ rate: {rate}, burst: {burst} }} }}
apis:
  files:
    upstream: "http://127.0.0.1:{upstream}"
    routes: {{ "GET /": {{ scopes: [files:read] }} }}
audit: none
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bearer():
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "files", "sub": "acme", "scope": "files:read", "iat": now, "exp": now + 86000}
    signed = ".".join(encode(json.dumps(part).encode()) for part in [{"alg": "HS256", "typ": "at+jwt"}, claims])
    return f"{signed}.{encode(hmac.new(SECRET.encode(), signed.encode(), hashlib.sha256).digest())}"


def upstream(port):
    """Answers every request with as little work as possible."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    listener = socket.create_server(("127.0.0.1", port), backlog=512)

    def serve(client):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while data := client.recv(65536):
            client.sendall(answer * data.count(b"\r\n\r\n"))
    while True:
        client, _ = listener.accept()
        threading.Thread(target=serve, args=(client,), daemon=True).start()


class Node:
    def __init__(self, world, store, rate, burst, environment=None):
        self.port, self.admin, self.world = free_port(), free_port(), world
        file = world.folder / f"node-{self.port}.yaml"
        file.write_text(POLICY.format(port=self.port, admin=self.admin, token=ADMIN, store=store, rate=rate,
                                      burst=burst, issuer=ISSUER, secret=SECRET, upstream=world.upstream))
        self.log = open(world.folder / f"node-{self.port}.log", "wb")
        self.process = subprocess.Popen([world.binary, "run", "--policy", file], stdout=self.log, stderr=self.log,
                                        env={**os.environ, **(environment or {})})
        wait(lambda: self.page() is not None)

    def page(self):
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}/metrics", headers={"authorization": f"Bearer {ADMIN}"})
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return None

    def metric(self, name):
        lines = re.findall(rf"^bartizan_{name}(?:{{[^}}]*}})? (\S+)$", self.page() or "", re.M)
        return sum(map(float, lines))

    def cpu(self):
        """Seconds of CPU so far."""
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, how=signal.SIGTERM):
        self.process.send_signal(how)
        self.process.wait()


class Caller:
    """A connection that counts answers by status."""

    def __init__(self, node, token):
        self.socket = socket.create_connection(("127.0.0.1", node.port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = f"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self.counts, self.rest = {}, b""

    def send(self, count):
        self.socket.sendall(self.request * count)
        while count:
            self.rest += self.socket.recv(1 << 18)
            # An answer is whole when its body is there.
            while (end := self.rest.find(b"\r\n\r\n")) >= 0:
                length = int(re.search(rb"content-length: (\d+)", self.rest[:end], re.I).group(1))
                if len(self.rest) < end + 4 + length:
                    break
                status = int(self.rest[9:12])
                self.counts[status] = self.counts.get(status, 0) + 1
                self.rest = self.rest[end + 4 + length:]
                count -= 1


def wait(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise SystemExit("something did not happen in time")
        time.sleep(0.02)


def demand(world, nodes, shares, offered, seconds):
    """Offers requests to nodes, each its share, for some seconds. Returns counts by status, and how long it took."""
    begun, end, counts = time.monotonic(), time.monotonic() + seconds, {}

    def call(node, rate):
        caller, sent = Caller(node, world.token), 0
        batch = max(1, min(BATCH, int(rate / 50)))
        while (now := time.monotonic()) < end:
            if (now - begun) * rate < sent:
                time.sleep(min(0.002, max(0.0, sent / rate - (now - begun))))
                continue
            caller.send(batch)
            sent += batch
        for status, count in caller.counts.items():
            counts[status] = counts.get(status, 0) + count
    threads = [threading.Thread(target=call, args=(node, offered * share)) for node, share in zip(nodes, shares) if share]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    return counts, time.monotonic() - begun


def full_speed(world, nodes, shares, seconds):
    """Offers requests as fast as wrk can, on connections that are split by the shares."""
    begun, callers = time.monotonic(), []
    for node, share in zip(nodes, shares):
        if share:
            wrk = ["wrk", "-t1", f"-c{max(1, int(16 * share))}", f"-d{seconds}s", "-H", f"Authorization: Bearer {world.token}",
                   f"http://127.0.0.1:{node.port}/"]
            callers.append(subprocess.Popen(wrk, stdout=subprocess.PIPE, text=True))
    counts = {200: 0, 429: 0}
    for caller in callers:
        output, _ = caller.communicate()
        all_ = int(re.search(r"(\d+) requests in", output).group(1))
        refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
        refused = int(refused.group(1)) if refused else 0
        counts[200] += all_ - refused
        counts[429] += refused
    return counts, time.monotonic() - begun


def exactness(world):
    # Long enough that what nodes hold at the end does not count for much.
    for rate, seconds in [(10, 40), (1000, 20), (10000, 8)]:
        for name, shares in [("even", [0.25] * 4), ("skewed", [0.85, 0.05, 0.05, 0.05]), ("one node", [1, 0, 0, 0])]:
            nodes = world.nodes(f"{rate}/s", rate)
            asked = sum(node.metric("limits_questions_total") for node in nodes)
            if rate == 10000 and shutil.which("wrk"):
                counts, took = full_speed(world, nodes, shares, seconds)
            else:
                counts, took = demand(world, nodes, shares, rate * 1.5, seconds)
            asked = sum(node.metric("limits_questions_total") for node in nodes) - asked
            ideal = rate * took + rate
            through, all_ = counts.get(200, 0), sum(counts.values())
            print(f"{rate}/s, {name}, demand {all_ / took:.0f}/s: let through {through} of {ideal:.0f}: {through / ideal:.2%}; "
                  f"{asked / all_:.3f} questions a request; other answers {all_ - through - counts.get(429, 0)}", flush=True)
            [node.stop() for node in nodes]
        nodes = world.nodes(f"{rate}/s", rate)
        counts, took = demand(world, nodes, [0.25] * 4, rate * 0.9, seconds)
        print(f"{rate}/s, demand {sum(counts.values()) / took:.0f}/s: {counts.get(429, 0)} refusals", flush=True)
        [node.stop() for node in nodes]


def clocks(world):
    """Two of the nodes believe that it is 5 s later or earlier: the store's clock decides."""
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if not library:
        print("clocks: there is no libfaketime")
        return
    rate, seconds = 1000, 8
    wrong = [{}, {}] + [{"LD_PRELOAD": library, "FAKETIME": by, "DONT_FAKE_MONOTONIC": "1"} for by in ("+5s", "-5s")]
    world.flush()
    nodes = [Node(world, world.store, f"{rate}/s", rate, environment) for environment in wrong]
    wait(lambda: all(node.metric("limits_nodes") == NODES for node in nodes))
    counts, took = demand(world, nodes, [0.25] * 4, rate * 1.5, seconds)
    ideal = rate * took + rate
    print(f"{rate}/s, clocks wrong by 5 s: let through {counts.get(200, 0)} of {ideal:.0f}: {counts.get(200, 0) / ideal:.2%}; "
          f"answers {counts}")
    [node.stop() for node in nodes]


def redis_server(folder, name, *lines, arguments=()):
    """Starts a server with this configuration, and returns its process and port."""
    # Servers of a cluster listen on another port, too: ten thousand above it.
    while (port := free_port()) > 55000:
        pass
    home = folder / f"{name}-{port}"
    home.mkdir()
    (home / "redis.conf").write_text("\n".join([f"port {port}", "bind 127.0.0.1", f"dir {home}", 'save ""', *lines]) + "\n")
    process = subprocess.Popen(["redis-server", home / "redis.conf", *arguments], stdout=subprocess.DEVNULL)
    wait(lambda: asks(port, "PING"))
    return process, port


def asks(port, *command):
    return subprocess.run(["redis-cli", "-p", str(port), *command], capture_output=True, text=True).stdout.strip()


def sentinels(folder):
    """A primary with a replica, watched by three Sentinels: its store, and what is to be killed."""
    primary, port = redis_server(folder, "primary", "repl-diskless-sync-delay 0")
    replica, replica_port = redis_server(folder, "replica", f"replicaof 127.0.0.1 {port}")
    wait(lambda: "master_link_status:up" in asks(replica_port, "INFO", "replication"))
    lines = [f"sentinel monitor main 127.0.0.1 {port} 2", "sentinel down-after-milliseconds main 500",
             "sentinel failover-timeout main 5000"]
    watching = [redis_server(folder, "sentinel", *lines, arguments=["--sentinel"]) for _ in range(3)]
    wait(lambda: all(str(replica_port) in asks(one, "SENTINEL", "REPLICAS", "main") for _, one in watching))
    wait(lambda: all(len(asks(one, "SENTINEL", "SENTINELS", "main").split("runid")) == 3 for _, one in watching))
    urls = ", ".join(f'"redis://127.0.0.1:{one}"' for _, one in watching)
    return f"sentinel: [{urls}], master: main", primary, [replica, *(process for process, _ in watching)]


def cluster(folder):
    """Three primaries, each with a replica: its store, and the primary of the caller."""
    lines = ["cluster-enabled yes", "cluster-config-file nodes.conf", "cluster-node-timeout 1000"]
    servers = [redis_server(folder, "cluster", *lines) for _ in range(6)]
    addresses = [f"127.0.0.1:{port}" for _, port in servers]
    subprocess.run(["redis-cli", "--cluster", "create", "--cluster-replicas", "1", "--cluster-yes", *addresses],
                   capture_output=True, check=True)
    wait(lambda: all("cluster_state:ok" in asks(port, "CLUSTER", "INFO") for _, port in servers))
    slot = asks(servers[0][1], "CLUSTER", "KEYSLOT", "{bartizan:u:one:acme}")
    slots = next(line for line in asks(servers[0][1], "CLUSTER", "NODES").splitlines() if "master" in line and
                 any(int(first) <= int(slot) <= int(last or first) for first, _, last in
                     (part.partition("-") for part in line.split()[8:])))
    port = int(re.search(r":(\d+)@", slots).group(1))
    killed = next(process for process, one in servers if one == port)
    urls = ", ".join(f'"redis://{address}"' for address in addresses)
    return f"cluster: [{urls}]", killed, [process for process, _ in servers if process is not killed]


def failover(world):
    """The primary is killed under load: what is answered meanwhile, and what is let through twice."""
    rate, seconds = 1000, 15
    for kind, begin in [("Sentinel", sentinels), ("Cluster", cluster)]:
        redis, killed, others = begin(world.folder)
        store = f"store: {{ redis: {{ {redis} }}, on_failure: serve, limits: {{ on_failure: local }} }}"
        nodes = [Node(world, store, f"{rate}/s", rate) for _ in range(NODES)]
        wait(lambda: all(node.metric("limits_nodes") == NODES for node in nodes))
        threading.Timer(5, killed.kill).start()
        counts, took = demand(world, nodes, [0.25] * 4, rate * 1.5, seconds)
        up = sum(node.metric("limits_store_up") for node in nodes)
        ideal = rate * took + rate
        other = sum(count for status, count in counts.items() if status not in (200, 429))
        print(f"{kind}, its primary killed after 5 of {seconds} s: let through {counts.get(200, 0)} of {ideal:.0f}: "
              f"{counts.get(200, 0) / ideal:.2%}; other answers {other}; {up:.0f} of {NODES} nodes count together again", flush=True)
        [node.stop() for node in nodes]
        [process.kill() for process in others]


def exact_to_the_call(world):
    nodes = world.nodes("5/min", 5)
    callers = [Caller(node, world.token) for node in nodes]
    for turn in range(40):
        callers[turn % NODES].send(1)
    through = sum(caller.counts.get(200, 0) for caller in callers)
    print(f"5/min: let through {through} of 5")
    nodes[0].stop(signal.SIGKILL)
    again = Node(world, world.store, "5/min", 5)
    caller = Caller(again, world.token)
    caller.send(3)
    print(f"after kill -9 and a start: let through {caller.counts.get(200, 0)} of 0")
    [node.stop() for node in [*nodes[1:], again]]


def cost(world):
    """One caller, one request at a time, far below its limit: beside a node that counts alone."""
    world.flush()
    nodes = {"alone": Node(world, "", "10000/s", 10000), "shared": Node(world, world.store, "10000/s", 10000)}
    callers = {name: Caller(node, world.token) for name, node in nodes.items()}
    times, cpu = {name: [] for name in nodes}, {name: [] for name in nodes}
    for _ in range(30):
        for name, caller in callers.items():
            before = nodes[name].cpu()
            for _ in range(1000):
                begun = time.perf_counter_ns()
                caller.send(1)
                times[name].append(time.perf_counter_ns() - begun)
            cpu[name].append((nodes[name].cpu() - before) / 1000)
    quantile = {name: statistics.quantiles(values, n=100) for name, values in times.items()}
    for percent in (50, 99):
        one, two = quantile["alone"][percent - 1] / 1000, quantile["shared"][percent - 1] / 1000
        print(f"latency p{percent}: alone {one:.0f} us, shared {two:.0f} us: {two - one:+.0f} us")
    one, two = (1e6 * statistics.mean(cpu[name]) for name in ("alone", "shared"))
    print(f"CPU a request: alone {one:.1f} us, shared {two:.1f} us: {two - one:+.1f} us")
    print(f"answers: {[caller.counts for caller in callers.values()]}")
    [node.stop() for node in nodes.values()]


def outage(world):
    world.flush()
    node = Node(world, world.store, "10000/s", 10000)
    caller = Caller(node, world.token)
    caller.send(1)
    time.sleep(0.3)
    world.redis.send_signal(signal.SIGSTOP)
    times = []
    while len(times) < 4000:
        begun = time.perf_counter_ns()
        caller.send(1)
        times.append((time.perf_counter_ns() - begun) / 1000)
    waited = [time_ for time_ in times if time_ > 10000]
    print(f"Redis stopped: {len(waited)} requests waited, at most {max(waited, default=0) / 1000:.1f} ms; "
          f"the last 2000: p50 {statistics.median(times[-2000:]):.0f} us; answers {caller.counts}")
    world.redis.send_signal(signal.SIGCONT)
    begun = time.monotonic()
    wait(lambda: node.metric("limits_store_up") == 1)
    print(f"Redis answers: counted together again after {time.monotonic() - begun:.2f} s")
    node.stop()


class World:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, pathlib.Path(folder)
        self.token, self.upstream = bearer(), free_port()
        threading.Thread(target=upstream, args=(self.upstream,), daemon=True).start()
        socket_path = self.folder / "redis.sock"
        self.redis = subprocess.Popen(["redis-server", "--port", "0", "--save", "", "--unixsocket", socket_path],
                                      stdout=subprocess.DEVNULL, cwd=folder)
        wait(socket_path.exists)
        self.store = (f'store: {{ redis: "redis+unix://{socket_path}", on_failure: serve, '
                      "limits: { on_failure: local } }")

    def flush(self):
        subprocess.run(["redis-cli", "-s", self.folder / "redis.sock", "FLUSHALL"], capture_output=True, check=True)

    def nodes(self, rate, burst):
        self.flush()
        nodes = [Node(self, self.store, rate, burst) for _ in range(NODES)]
        wait(lambda: all(node.metric("limits_nodes") == NODES for node in nodes))
        return nodes


FIGURES = [exact_to_the_call, cost, outage, clocks, failover, exactness]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default="target/release/bartizan")
    parser.add_argument("--only", choices=[figure.__name__ for figure in FIGURES], action="append")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        world = World(os.path.abspath(options.binary), folder)
        try:
            for figure in FIGURES:
                if not options.only or figure.__name__ in options.only:
                    figure(world)
        finally:
            world.redis.kill()


if __name__ == "__main__":
    main()
