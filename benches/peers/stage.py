"""What a measurement runs on: a temporary folder, keys, the upstream, and proxies started fresh for every run."""

import functools
import json
import os
import re
import resource
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import credentials
from child import Child

CONF = Path(__file__).with_name("conf")
TOKENS = 1000
ANSWER = json.dumps({"id": "o-1", "state": "shipped", "lines": [
    {"item": f"article {n}", "quantity": n, "price": 19.9, "currency": "EUR"} for n in range(1, 5)]})


@dataclass(frozen=True)
class Proxy:
    title: str
    files: list                                   # in conf/; the first is the one that the command names
    options: str


PROXIES = {
    "bartizan": Proxy("Bartizan", ["bartizan-{mode}.yaml"], "run --policy {file}"),
    "haproxy": Proxy("HAProxy", ["haproxy-{mode}.cfg"], "-db -f {file}"),
    "nginx": Proxy("nginx", ["nginx-{mode}.conf", "verify.js"], "-p {folder} -e {folder}/error.log -c {file}"),
    "envoy": Proxy("Envoy", ["envoy-{mode}.yaml"], "-c {file} --concurrency 1 --disable-hot-restart -l error"),
}


def titles(names):
    return [PROXIES[name].title for name in names]


class Stage:
    """Ports: `port` is the proxy's in clear, the next one over TLS, the one a hundred on the upstream's."""

    def __init__(self, programs, port, proxy_cpu, *load_cpus):
        self.programs, self.proxy_cpu, self.load_cpus = programs, proxy_cpu, set(load_cpus)
        self.all_cpus = {proxy_cpu, *load_cpus}
        self.port, self.upstream_port = port, port + 100
        self.clear, self.tls = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{port + 1}"

    def __enter__(self):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        os.sched_setaffinity(0, self.load_cpus)                  # and so every load generator that is started from here
        in_memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
        self.folder = Path(tempfile.mkdtemp(prefix="bartizan-peers-", dir=in_memory))
        try:
            self.values = {"conf": CONF, "shared": self.folder, "answer": ANSWER, "port": self.port,
                           "tls_port": self.port + 1, "upstream_port": self.upstream_port,
                           **credentials.make_keys(self.folder)}
            self.upstream = self._child("nginx", ["upstream.conf"], [self.upstream_port], self.load_cpus)
            self.upstream.__enter__()
        except BaseException:
            shutil.rmtree(self.folder)
            raise
        return self

    def __exit__(self, *_):
        self.upstream.__exit__()
        shutil.rmtree(self.folder)

    @contextmanager
    def proxy(self, name, mode, workers=1, cpus=None):
        """A fresh proxy, `plain` or `secured`, alone on its core."""
        files = [file.format(mode=mode) for file in PROXIES[name].files]
        child = self._child(name, files, [self.port, self.port + 1], cpus or {self.proxy_cpu}, workers)
        try:
            with child:
                yield child
        finally:
            shutil.rmtree(child.log.parent)

    @contextmanager
    def everywhere(self):
        """The load generators and the upstream may use the proxy's core as well."""
        self._load_on(self.all_cpus)
        try:
            yield
        finally:
            self._load_on(self.load_cpus)

    def _load_on(self, cpus):
        for pid in [os.getpid(), *self.upstream.processes()]:
            os.sched_setaffinity(pid, cpus)

    def _child(self, name, files, ports, cpus, workers=1):
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        values = {**self.values, "folder": folder, "log": folder / "log", "workers": workers}
        for file in files:
            text = (CONF / file).read_text()
            (folder / file).write_text(re.sub(r"@(\w+)@", lambda found: str(values[found[1]]), text))
        options = PROXIES[name].options.split()
        command = [self.programs[name], *(word.format(folder=folder, file=folder / files[0]) for word in options)]
        return Child(command, ports, cpus, folder)

    def token(self, **claims):
        return credentials.token(self.folder, **claims)

    @functools.cached_property
    def one_token(self):
        return self._authorizations("one", 1)

    @functools.cached_property
    def many_tokens(self):
        return self._authorizations("many", TOKENS)

    def _authorizations(self, name, count):
        path = self.folder / name
        path.write_text("".join(f"Bearer {self.token(subject=f'caller-{n}')}\n" for n in range(count)))
        return path

    @functools.cached_property
    def order(self):
        """A JSON body of 1 KiB that keeps its schema."""
        lines = [{"item": f"article {n}", "quantity": n + 1, "price": 10.5 + n} for n in range(14)]
        order = {"id": "o-20481", "customer": {"name": "Maria Huber", "country": "AT"}, "lines": lines, "note": ""}
        order["note"] = "n" * (1024 - len(json.dumps(order)))
        path = self.folder / "order.json"
        path.write_text(json.dumps(order))
        return path

    def file(self, name, size):
        """A file that the upstream serves as /files/NAME."""
        path = self.folder / "files" / name
        path.parent.mkdir(exist_ok=True)
        if not path.exists():
            path.write_bytes(os.urandom(65536) * (size // 65536))
        return path
