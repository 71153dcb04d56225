#!/usr/bin/env python3
"""Secrets that rotate under load, and tokens of the token service: what fails meanwhile, and how fast it is.

A real proxy runs before OpenBao, Redis, and an identity provider that takes the newest secret of its client alone. Needs openssl,
redis-server, redis-cli and `bao` (--bao, BAO or on the PATH); `signing` needs libfaketime. It prints one line for each figure, and
exits with 1 if a promise is broken.

    cargo build --release && benches/rotation.py rotations
"""

import argparse
import array
import base64
import contextlib
import glob
import http.server
import json
import os
import pathlib
import re
import secrets
import shutil
import signal
import socket
import ssl
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request

from record import BROKEN, figure, free_port, is_open, percentile, processes, promise, serve, wait

ADMIN, SECRET = secrets.token_hex(32), secrets.token_hex(32)
BATCH = 20                     # requests that are sent at once on one connection
CALLERS = 20                   # connections of the load
VERIFIERS = 3                  # `signing`: each asks for the keys at another time
SPEED = 60                     # `signing`: how much faster the proxy's clock is
POLICY = """\
version: 1
listen: [{{ address: "127.0.0.1:{port}", tls: {{ certificate: tls.crt, key: tls.key }} }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
secrets:
  watch: 1s
  vault: {{ address: "http://127.0.0.1:{vault}", refresh: {refresh}, login: {{ approle: {{ role_id: "{role}", secret_id: "{secret_id}" }} }} }}
store: {{ redis: "redis://proxy:${{vault:secret/redis#password}}@127.0.0.1:{redis}" }}
auth:
  introspection:
    idp: {{ endpoint: "http://127.0.0.1:{idp}/", client_id: bartizan, client_secret: "${{vault:secret/idp#client_secret}}", cache: 1s }}
token_service: {{ issuer: "https://127.0.0.1:{port}", audience: [files], keys: {{ seal: "${{vault:secret/seal#seal}}" }} }}
roles: {{ reader: [files:read] }}
plans: {{ all: {{ rate: 100000/s }} }}
consumers:
  acme: {{ roles: [reader], plan: all, identities: [{{ issuer: idp, id: acme }}], clients: [{{ id: acme-1, secret_sha256: "{digest}" }}] }}
apis:
  files:
    upstream: "http://127.0.0.1:{upstream}"
    routes: {{ "GET /": {{ scopes: [files:read] }} }}
audit: [{{ file: {{ path: audit.jsonl }} }}]
"""
TOKENS = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
admin: {{ address: "127.0.0.1:{admin}", token: "{token}" }}
store: state/
token_service: {{ issuer: "http://127.0.0.1:{port}", audience: [files]{more} }}
roles: {{ reader: [files:read] }}
plans: {{ all: {{ rate: 1000000/s }} }}
consumers: {{ acme: {{ roles: [reader], plan: all, clients: [{{ id: acme-1, secret_sha256: "{digest}" }}] }} }}
apis:
  files:
    upstream: "http://127.0.0.1:{upstream}"
    routes: {{ "GET /": {{ scopes: [files:read] }} }}
audit: {audit}
"""


def run(*command, text=None):
    return subprocess.run(command, check=True, capture_output=True, text=True, input=text).stdout


def digest():
    """Of the client's secret. A process that is spawned has another: it is an argument."""
    return run("openssl", "dgst", "-sha256", "-r", text=SECRET).split()[0]


# --- what the proxy has around it ---

class Vault:
    """An OpenBao in memory, unsealed."""

    def __init__(self, binary, folder):
        self.port, config = free_port(), folder / "bao.hcl"
        config.write_text(f'storage "inmem" {{}}\ndisable_mlock = true\napi_addr = "http://127.0.0.1:{self.port}"\n'
                          f'listener "tcp" {{\n address = "127.0.0.1:{self.port}"\n tls_disable = true\n}}\n')
        log = open(folder / "bao.log", "wb")
        self.process = subprocess.Popen([binary, "server", "-config", config], stdout=log, stderr=log, env={**os.environ, "HOME": str(folder)})
        self.root = ""
        wait(lambda: is_open(self.port), "OpenBao listens")
        made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.root, self.key = made["root_token"], made["keys_base64"][0]
        self.unseal()
        self.ask("POST", "sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
        wait(lambda: self.writes("ready", {"a": "b"}), "the key-value engine is ready")
        policy = 'path "secret/data/*" { capabilities = ["read"] }'
        self.ask("PUT", "sys/policies/acl/reader", {"policy": policy})
        self.ask("POST", "sys/auth/approle", {"type": "approle"})

    def ask(self, method, path, body=None):
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/{path}", method=method, headers={"x-vault-token": self.root},
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.loads(answer.read() or b"{}")

    def writes(self, path, fields):
        with contextlib.suppress(urllib.error.HTTPError):
            return self.ask("POST", f"secret/data/{path}", {"data": fields})["data"]["version"]

    def approle(self, seconds):
        """Role id and secret id of a login whose tokens are good for so many seconds."""
        role = {"token_policies": "reader", "token_ttl": seconds, "token_max_ttl": seconds}
        self.ask("POST", "auth/approle/role/proxy", role)
        named = self.ask("GET", "auth/approle/role/proxy/role-id")["data"]["role_id"]
        return named, self.ask("POST", "auth/approle/role/proxy/secret-id", {})["data"]["secret_id"]

    def seal(self):
        self.ask("PUT", "sys/seal")

    def unseal(self):
        self.ask("PUT", "sys/unseal", {"key": self.key})
        wait(lambda: not self.ask("GET", "sys/health?standbyok=true&sealedcode=200&uninitcode=200").get("sealed", True), "OpenBao is unsealed")


class Redis:
    """A Redis whose user `proxy` has a password."""

    def __init__(self, folder):
        self.port = free_port()
        log = open(folder / "redis.log", "wb")
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self.process = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log)
        wait(lambda: is_open(self.port), "Redis listens")
        self.password = self.next()

    def ask(self, *words):
        return run("redis-cli", "-p", str(self.port), *words)

    def next(self):
        """One more password, which is good beside the others."""
        password = secrets.token_hex(16)
        self.ask("ACL", "SETUSER", "proxy", "on", f">{password}", "~*", "&*", "+@all")
        return password

    def connections(self):
        """Numbers of the connections of the proxy; later ones are higher."""
        lines = self.ask("CLIENT", "LIST").splitlines()
        return {int(re.search(r"id=(\d+)", line).group(1)) for line in lines if "user=proxy" in line}


class Provider:
    """Introspects every token as one of acme, for a client that has one of its secrets; remembers when each was first used."""

    def __init__(self):
        self.port, self.secrets, self.seen, self.refused, self.asked = free_port(), set(), {}, 0, 0
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                sent = base64.b64decode(self.headers["authorization"].removeprefix("Basic ")).decode().partition(":")[2]
                provider.asked += 1
                status = 200 if sent in provider.secrets else 401
                provider.seen.setdefault(sent, time.monotonic())
                provider.refused += status == 401
                body = json.dumps({"active": True, "client_id": "acme", "scope": "files:read"} if status == 200 else {"error": "invalid_client"})
                head = f"HTTP/1.1 {status} _\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                self.wfile.write((head + body).encode())

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass
        threading.Thread(target=Server(("127.0.0.1", self.port), Handler).serve_forever, daemon=True).start()

    def next(self):
        """One more secret, which is good beside the others."""
        secret = secrets.token_hex(16)
        self.secrets.add(secret)
        return secret


class Authority:
    """Signs certificates for 127.0.0.1."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "ca.pem"
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "30", "-subj", "/CN=authority",
            "-keyout", folder / "ca.key", "-out", self.file)

    def certify(self, certificate, key):
        run("openssl", "req", "-x509", "-CA", self.file, "-CAkey", self.folder / "ca.key", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "30", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate)


class World:
    """A folder with a policy, and all that the proxy has around it."""

    def __init__(self, options, folder):
        self.binary, self.folder = os.path.abspath(options.binary), pathlib.Path(folder)
        self.port, self.admin, self.upstream, self.log = free_port(), free_port(), free_port(), self.folder / "log"
        self.children = []
        service = processes.Process(target=serve, args=(self.upstream,), daemon=True)
        service.start()
        wait(lambda: is_open(self.upstream), "the service behind the proxy listens")
        self.children.append(service)

    def surround(self, bao, refresh, token_ttl):
        """Starts vault, Redis and identity provider, fills them, and writes the policy."""
        self.vault, self.redis, self.provider, self.authority = Vault(bao, self.folder), Redis(self.folder), Provider(), Authority(self.folder)
        self.children += [self.vault.process, self.redis.process]
        self.vault.writes("redis", {"password": self.redis.password})
        self.vault.writes("idp", {"client_secret": self.provider.next()})
        self.vault.writes("seal", {"seal": secrets.token_hex(32)})
        self.authority.certify(self.folder / "tls.crt", self.folder / "tls.key")
        role, secret_id = self.vault.approle(token_ttl)
        self.write(POLICY, vault=self.vault.port, refresh=refresh, role=role, secret_id=secret_id, redis=self.redis.port, idp=self.provider.port)

    def write(self, policy, **values):
        text = policy.format(port=self.port, admin=self.admin, token=ADMIN, digest=digest(), upstream=self.upstream, **values)
        (self.folder / "policy.yaml").write_text(text)

    def start(self, environment=None):
        """Starts the proxy, and waits until it is ready."""
        log = open(self.log, "ab")
        command = [self.binary, "run", "--policy", "policy.yaml"]
        self.proxy = subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, env={**os.environ, **(environment or {})})
        self.children.append(self.proxy)

        def ready():
            if self.proxy.poll() is not None:
                raise SystemExit(f"the proxy does not start: {self.log.read_text()[-2000:]}")
            return (self.state() or {}).get("ready")
        wait(ready, "the proxy is ready")

    def ask(self, path, body=None):
        """An answer of the admin listener."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.admin}{path}", headers={"authorization": f"Bearer {ADMIN}"},
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read().decode()

    def state(self):
        with contextlib.suppress(OSError):
            return json.loads(self.ask("/readyz"))

    def metric(self, name):
        """Its sum over all labels."""
        return sum(map(float, re.findall(rf"^bartizan_{name}(?:{{[^}}]*}})? (\S+)$", self.ask("/metrics"), re.M)))

    def cpu(self):
        """Seconds of CPU so far."""
        fields = pathlib.Path(f"/proc/{self.proxy.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def said(self, text):
        """How many lines of the log have this text."""
        return sum(text in line for line in self.log.read_text().splitlines())

    def stop(self):
        self.proxy.send_signal(signal.SIGTERM)
        promise(self.proxy.wait(timeout=60) == 0, "the proxy ends with exit code 0")

    def close(self):
        for child in self.children:
            child.kill()


@contextlib.contextmanager
def world_of(options):
    with tempfile.TemporaryDirectory(prefix="bartizan-secrets-", dir=options.folder) as folder:
        world = World(options, folder)
        try:
            yield world
        finally:
            world.close()
            if options.keep:
                shutil.copytree(folder, options.keep, dirs_exist_ok=True)


# --- the callers: a process of their own ---

def token_request(port, secret):
    basic = base64.b64encode(f"acme-1:{secret}".encode()).decode()
    body = "grant_type=client_credentials"
    return (f"POST /oauth/token HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Basic {basic}\r\n"
            f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}").encode()


class Caller:
    """Sends requests on a connection, one at a time, and makes another one after each hundred."""

    def __init__(self, port, context):
        self.port, self.context, self.socket, self.left, self.input = port, context, None, 0, b""

    def call(self, request):
        """Status and body; 0 if there is no answer."""
        try:
            if self.left == 0:
                self.close()
                self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=10)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self.context:
                    self.socket = self.context.wrap_socket(self.socket, server_hostname="127.0.0.1")
                self.left = 100
            self.left -= 1
            self.socket.sendall(request)
            return self.answer()
        except OSError as error:
            self.close()
            return 0, repr(error).encode()

    def answer(self):
        while True:
            head, found, body = self.input.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head, re.I) if found else None
            if length and len(body) >= int(length.group(1)):
                self.input = b""
                if b"\r\nconnection: close" in head.lower():
                    self.left = 0
                return int(head[9:12]), body
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the connection ended without an answer")
            self.input += data

    def close(self):
        if self.socket is not None:
            self.socket.close()
        self.socket, self.left, self.input = None, 0, b""


def call_for(port, secret, authority, rate, opaque, renew, number, stop, answers, failures):
    """One caller: tokens of the service and of the identity provider in turn. Every `renew` seconds it gets a new token."""
    context = ssl.create_default_context(cafile=authority) if authority else None
    caller, token, until, due, sent = Caller(port, context), None, 0, time.monotonic() + number / rate, 0
    while not stop.is_set():
        pause = due - time.monotonic()
        if pause > 0:
            time.sleep(pause)
        if token is None or time.monotonic() > until:
            begun = time.monotonic()
            status, body = caller.call(token_request(port, secret))
            note(answers, failures, "token", begun, status, body)
            token, until = (json.loads(body)["access_token"] if status == 200 else None), begun + renew
            due += CALLERS / rate
            continue
        sent += 1
        credential = f"opaque-{(sent * 7 + number) % 50}" if opaque and sent % 2 else token
        request = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {credential}\r\n\r\n"
        # What is late because this caller waits counts as late.
        status, body = caller.call(request.encode())
        note(answers, failures, "opaque" if credential is not token else "own", due, status, body)
        due += CALLERS / rate


def note(answers, failures, kind, due, status, body):
    answers.append(time.monotonic() - due)
    if status != 200:
        failures.append((time.time(), kind, status, body[:300].decode(errors="replace")))


def load(port, secret, authority, rate, opaque, renew, stop, results):
    """All callers."""
    answers, failures = array.array("f"), []
    arguments = [(port, secret, authority, rate, opaque, renew, number, stop, answers, failures) for number in range(CALLERS)]
    threads = [threading.Thread(target=call_for, args=each) for each in arguments]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    results.put((answers, failures))


class Load:
    """Callers under way."""

    def __init__(self, world, rate, opaque=True, renew=5, tls=True):
        self.stop, self.results, self.since, self.rate = processes.Event(), processes.Queue(), time.monotonic(), rate
        authority = str(world.authority.file) if tls else None
        self.process = processes.Process(target=load, args=(world.port, SECRET, authority, rate, opaque, renew, self.stop, self.results), daemon=True)
        self.process.start()

    def end(self, what):
        """Waits for the last answers, and says how many failed."""
        seconds = time.monotonic() - self.since
        self.stop.set()
        answers, failures = self.results.get(timeout=60)
        self.process.join()
        took = sorted(second * 1000 for second in answers)
        figure(f"{what}: {len(answers):,} calls in {seconds:.0f} s ({len(answers) / seconds:,.0f}/s), {len(failures)} failed; "
               f"p50 {percentile(took, 50):.2f} ms, p99 {percentile(took, 99):.2f} ms, at most {percentile(took, 100):.0f} ms")
        promise(not failures, f"no call fails: {len(failures)} did, such as {failures[:3]}")
        promise(len(answers) > 0.95 * self.rate * (seconds - 2), f"calls come at {self.rate}/s")


# --- what is measured ---

def tokens(options):
    """How many tokens a core gives."""
    for name, more, audit in [("", "", "none"), (", on record", "", "[{ file: { path: audit.jsonl } }]"),
                              (", with refresh tokens", ", refresh_token: {}", "none")]:
        with world_of(options) as world:
            world.write(TOKENS, more=more, audit=audit)
            world.start()
            results, stop = processes.Queue(), processes.Event()
            ask = [processes.Process(target=ask_for_tokens, args=(world.port, SECRET, stop, results), daemon=True) for _ in range(2)]
            for process in ask:
                process.start()
            time.sleep(2)
            rates, since, before, cpu = [], time.monotonic(), world.metric("requests_total"), world.cpu()
            for _ in range(options.rounds):
                time.sleep(options.seconds or 3)
                count, now = world.metric("requests_total"), world.cpu()
                rates.append((count - before) / (now - cpu))
                before, cpu = count, now
            stop.set()
            given, refused = (sum(each) for each in zip(*(results.get(timeout=30) for _ in ask)))
            figure(f"tokens{name}: {statistics.median(rates):,.0f} tokens per CPU second ({min(rates):,.0f} to {max(rates):,.0f}), "
                   f"{given / (time.monotonic() - since + 2):,.0f}/s with one worker; {refused} refused")
            promise(refused == 0, f"every request gets a token: {refused} did not")
            if not more:
                promise(statistics.median(rates) >= 8000, f"8,000 tokens per CPU second: {statistics.median(rates):,.0f}")
            world.stop()


def ask_for_tokens(port, secret, stop, results):
    """As fast as it can, in batches on 8 connections."""
    request, given, refused = token_request(port, secret) * BATCH, 0, 0
    sockets = [socket.create_connection(("127.0.0.1", port)) for _ in range(8)]
    for each in sockets:
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        each.sendall(request)
    while not stop.is_set():
        for each in sockets:
            answers = b""
            # The bodies have no such text.
            while (answered := answers.count(b"HTTP/1.1 ")) < BATCH or not answers.endswith(b"}"):
                answers += each.recv(262144)
            each.sendall(request)
            good = answers.count(b"HTTP/1.1 200")
            given, refused = given + good, refused + answered - good
    results.put((given, refused))


def in_force(condition, since, seconds=10):
    """How long it took until then, in seconds."""
    wait(condition, "what was rotated is in force", seconds, pause=0.01)
    return time.monotonic() - since


def rotate_certificate(world):
    """Two files, one after the other."""
    new, key = world.folder / "new.crt", world.folder / "new.key"
    world.authority.certify(new, key)
    expected = ssl.PEM_cert_to_DER_cert(new.read_text())
    context = ssl.create_default_context(cafile=world.authority.file)

    def served():
        with socket.create_connection(("127.0.0.1", world.port)) as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as one:
            return one.getpeercert(True) == expected
    os.replace(new, world.folder / "tls.crt")
    os.replace(key, world.folder / "tls.key")
    return in_force(served, time.monotonic())


def rotate_client_secret(world):
    """Both are good until the new one is used; then the old one is not."""
    secret, before = world.provider.next(), set(world.provider.secrets)
    world.vault.writes("idp", {"client_secret": secret})
    took = in_force(lambda: secret in world.provider.seen, time.monotonic())
    # Exchanges under way are with the old one.
    time.sleep(0.2)
    world.provider.secrets -= before - {secret}
    return took


def rotate_redis_password(world):
    """Both are good until the new one is used; then the old one is not."""
    last, before, password = max(world.redis.connections()), world.redis.password, world.redis.next()
    world.vault.writes("redis", {"password": password})
    took = in_force(lambda: max(world.redis.connections()) > last, time.monotonic())
    world.redis.ask("ACL", "SETUSER", "proxy", f"<{before}")
    world.redis.password = password
    wait(lambda: min(world.redis.connections()) > last, "connections with the old password are closed", 20)
    return took


def rotations(options):
    """Certificate, client secret and Redis password, under load."""
    with world_of(options) as world:
        world.surround(options.bao, "1s", 600)
        world.start()
        callers = Load(world, options.rate)
        time.sleep(2)
        took = {"certificate": [], "client secret": [], "Redis password": []}
        for _ in range(options.count):
            took["certificate"].append(rotate_certificate(world))
            took["client secret"].append(rotate_client_secret(world))
            took["Redis password"].append(rotate_redis_password(world))
        time.sleep(1)
        callers.end(f"{options.count} rotations each")
        for name, times in took.items():
            times.sort()
            figure(f"{name}: in force after {statistics.median(times):.2f} s (median), {times[-1]:.2f} s at most, of 1 s `refresh` or `watch`")
            promise(times[-1] <= 2, f"a new {name} is in force within 2 s: {times[-1]:.2f} s")
        figure(f"introspections: {world.provider.asked:,}, of them {world.provider.refused} with a secret that had ended")
        promise(world.provider.refused == 0, f"no introspection has an old secret: {world.provider.refused} had")
        promise(world.said("ERROR") == 0, "nothing is logged as an error")
        world.stop()


def signing(options):
    """Signing keys, with a clock of the proxy that is so much faster: a key is published ten minutes before it signs."""
    library = next(iter(glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        return figure("signing: skipped, because there is no libfaketime")
    with world_of(options) as world:
        world.write(TOKENS, more="", audit="none")
        world.start({"LD_PRELOAD": library, "FAKETIME": f"+0 x{SPEED}", "DONT_FAKE_MONOTONIC": "1"})
        # Each keeps a token for as long as it is valid.
        callers = Load(world, options.rate, opaque=False, renew=600 / SPEED - 0.5, tls=False)
        verifiers = [Verifier(world, phase / VERIFIERS) for phase in range(VERIFIERS)]
        verifier = verifiers[0]
        took, kids = [], []
        for _ in range(options.count):
            since = time.monotonic()
            kid = json.loads(world.ask("/v1/signing-keys/rotate", {}))["kid"]
            took.append(in_force(lambda: kid in verifier.fetch(), since))
            kids.append(kid)
            time.sleep(2.5)
        wait(lambda: verifier.signs() == kids[-1], "the last key signs", 60)
        time.sleep(600 / SPEED)
        for one in verifiers:
            one.stop()
        seen, unknown = set().union(*(one.kids for one in verifiers)), sum(one.unknown for one in verifiers)
        callers.end(f"{options.count} signing keys, one every {2.5 * SPEED:.0f} s")
        figure(f"signing key: published after {max(took) * 1000:.0f} ms at most; {VERIFIERS} verifiers that keep the keys for 5 minutes have seen "
               f"{sum(one.checked for one in verifiers):,} tokens of {len(seen)} keys, and knew the keys of all but {unknown}")
        promise(max(took) <= 1, f"a new signing key is published within 1 s: {max(took):.2f} s")
        promise(unknown == 0, f"a verifier knows the key of every token: of {unknown} it did not")
        promise(set(kids) <= seen, "every key has signed")
        world.stop()


class Verifier:
    """Keeps the published keys for 5 minutes of the proxy's clock, and looks up the key of a token every 50 ms."""

    def __init__(self, world, phase):
        """`phase`: which part of the 5 minutes is over at first, so that several do not ask at the same time."""
        self.phase = phase
        self.port, self.checked, self.unknown, self.kids, self.ended = world.port, 0, 0, set(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def call(self, request):
        caller = Caller(self.port, None)
        status, body = caller.call(request)
        caller.close()
        return json.loads(body) if status == 200 else {}

    def fetch(self):
        keys = self.call(f"GET /oauth/jwks HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode()).get("keys", [])
        return {key["kid"] for key in keys}

    def signs(self):
        token = self.call(token_request(self.port, SECRET)).get("access_token", "e30")
        header = token.split(".")[0]
        return json.loads(base64.urlsafe_b64decode(header + "=" * (-len(header) % 4))).get("kid")

    def run(self):
        keys, until = self.fetch(), time.monotonic() + 300 / SPEED * (1 - self.phase)
        while not self.ended.wait(0.05):
            if time.monotonic() > until:
                until, keys = time.monotonic() + 300 / SPEED, self.fetch()
            kid = self.signs()
            self.kids.add(kid)
            self.checked, self.unknown = self.checked + 1, self.unknown + (kid not in keys)

    def stop(self):
        self.ended.set()
        self.thread.join()


def sealed(options):
    """The vault is sealed under load, as long as its secrets may be old."""
    with world_of(options) as world:
        world.surround(options.bao, "1m", 600)
        world.start()
        callers, seconds = Load(world, options.rate), options.seconds or 300
        time.sleep(2)
        world.vault.seal()
        since, alarms = time.monotonic(), {}
        while time.monotonic() - since < seconds:
            looks = {"log": lambda: world.said("a secret could not be read again"), "metric": lambda: world.metric("secret_failures_total"),
                     "readyz": lambda: "secrets" in world.state()["degraded"]}
            for name, look in looks.items():
                if name not in alarms and look():
                    alarms[name] = time.monotonic() - since
            time.sleep(0.5)
        ready = world.state()["ready"]
        world.vault.unseal()
        secret = world.provider.next()
        world.vault.writes("idp", {"client_secret": secret})
        back = in_force(lambda: secret in world.provider.seen, time.monotonic(), 90)
        callers.end(f"the vault sealed for {seconds} s")
        figure("alarms: " + ", ".join(f"{name} after {took:.0f} s" for name, took in alarms.items()))
        figure(f"after it was unsealed, a new secret is in force after {back:.0f} s, of 60 s `refresh`")
        promise(len(alarms) == 3 and max(alarms.values()) <= 60, f"log, metric and /readyz tell it within a minute: {alarms}")
        promise(ready, "the proxy stays ready")
        promise(back <= 61, f"it is in force within `refresh` and a second: {back:.1f} s")
        world.stop()


def short(options):
    """The proxy's tokens of the vault end after 8 seconds, and cannot be renewed beyond."""
    with world_of(options) as world:
        world.surround(options.bao, "1s", 8)
        world.start()
        callers, seconds, took = Load(world, options.rate), options.seconds or 180, []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            took.append(rotate_client_secret(world))
            time.sleep(5)
        callers.end(f"tokens of the vault with 8 s to live, for {seconds} s")
        failures = world.metric("secret_failures_total")
        figure(f"the vault: {failures:.0f} failed reads; {len(took)} rotations in force after {max(took):.2f} s at most")
        promise(failures == 0, f"no secret is missed: {failures:.0f} reads failed")
        promise(max(took) <= 2, f"a new secret is in force within 2 s: {max(took):.2f} s")
        promise(world.said(" WARN a secret") + world.said("ERROR") == 0, "nothing is logged as wrong")
        world.stop()


def missing(options):
    """What a start says without a secret, and without the vault."""
    with world_of(options) as world:
        world.surround(options.bao, "1s", 600)
        line = 1 + next(at for at, text in enumerate((world.folder / "policy.yaml").read_text().splitlines()) if "secret/idp" in text)

        def fails(name, text):
            since = time.monotonic()
            done = subprocess.run([world.binary, "run", "--policy", "policy.yaml"], cwd=world.folder, capture_output=True, text=True, timeout=60)
            place = re.search(rf"policy\.yaml:{line}:\d+", done.stderr)
            figure(f"a start {name}: exit code {done.returncode} after {time.monotonic() - since:.1f} s, at {place and place.group()}")
            holds = done.returncode == 2 and place and text in done.stderr
            promise(holds, f"a start {name} ends with 2 and the reference's line: {done.stderr[:500]}")
        world.vault.ask("DELETE", "secret/metadata/idp")
        fails("without a secret", "the vault has no secret `secret/idp`")
        world.vault.seal()
        fails("while the vault is sealed", "`secret/idp` could not be read")
        world.vault.process.kill()
        world.vault.process.wait()
        fails("without the vault", "`secret/idp` could not be read")


MEASURED = {"tokens": tokens, "rotations": rotations, "signing": signing, "sealed": sealed, "short": short, "missing": missing}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", nargs="*", metavar="WHAT", choices=[*MEASURED, []], help=f"of {', '.join(MEASURED)}; default: everything")
    parser.add_argument("--binary", default="target/release/bartizan")
    parser.add_argument("--bao", default=os.environ.get("BAO") or shutil.which("bao"))
    parser.add_argument("--rate", type=int, default=1000, help="calls a second")
    parser.add_argument("--count", type=int, default=20, help="rotations of each kind")
    parser.add_argument("--rounds", type=int, default=5, help="of `tokens`")
    parser.add_argument("--seconds", type=int, help="of a round of `tokens` (3), `sealed` (300), `short` (180)")
    parser.add_argument("--folder", help="where to put files; default: the system's")
    parser.add_argument("--keep", help="where to copy them afterwards")
    options = parser.parse_args()
    for what in options.what or MEASURED:
        figure(f"# {what}: {MEASURED[what].__doc__}")
        MEASURED[what](options)
    raise SystemExit(1 if BROKEN else 0)


if __name__ == "__main__":
    main()
