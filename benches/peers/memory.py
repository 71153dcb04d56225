"""What connections cost in memory: many that are busy, and very many that wait."""

import functools
import http.client
import select

import load
from check import tls_1_3
from report import mebibytes, table
from stage import PROXIES

BESIDE = 200                                      # requests per second beside the idle connections


class Idle:
    """Connections that have each done one request and are kept open."""

    def __init__(self, stage, tls):
        self.port, self.connect = stage.port + tls, http.client.HTTPConnection
        if tls:
            self.connect = functools.partial(http.client.HTTPSConnection, context=tls_1_3())
        self.headers = {"authorization": stage.one_token.read_text().strip()}
        self.connections = []

    def grow_to(self, count):
        while len(self.connections) < count:
            connection = self.connect("127.0.0.1", self.port, timeout=30)
            connection.request("GET", "/orders/1", headers=self.headers)
            connection.getresponse().read()
            self.connections.append(connection)

    def still_open(self):
        poll = select.poll()
        for connection in self.connections:
            poll.register(connection.sock, select.POLLRDHUP)
        return len(self.connections) - len(poll.poll(0))

    def close(self):
        for connection in self.connections:
            connection.close()


def memory(stage, names, options):
    rows = [row(stage, name, tls, options) for tls in (False, True) for name in names]
    print(table(["Memory (RSS of all processes)", "fresh", f"{load.CONNECTIONS} busy connections",
                 f"{options.idle:,} idle ones, after {options.hold} s", "one further idle one", "still open"], rows))
    print(f"The secured configurations. Each idle connection has done one request; {BESIDE} requests per second go "
          f"beside them. What a further one costs is the growth by the second half of them.")


def row(stage, name, tls, options):
    url = stage.tls if tls else stage.clear
    with stage.proxy(name, "secured") as proxy:
        fresh = proxy.resident()
        load.wrk(url, "/orders/1", options.secs, credentials=stage.one_token)
        busy = proxy.resident("VmHWM")
        idle = Idle(stage, tls)
        try:
            idle.grow_to(options.idle // 2)
            half = proxy.resident()
            idle.grow_to(options.idle)
            full = proxy.resident()
            send_beside(stage, url, options.hold)
            held, still_open = proxy.resident(), idle.still_open()
        finally:
            idle.close()
    further = (full - half) / (options.idle - options.idle // 2) / 1024
    title = f"{PROXIES[name].title}, {'TLS 1.3' if tls else 'in clear'}"
    return [title, *map(mebibytes, (fresh, busy, held)), f"{further:.1f} KiB", f"{still_open:,}"]


def send_beside(stage, url, seconds):
    clients = 4
    load.h2load(f"{url}/orders/1", "--h1", "-c", clients, f"--rps={BESIDE / clients}", "-D", seconds,
                load.bearer(stage.one_token))
