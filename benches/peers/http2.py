"""HTTP/2 in front: many requests at once on few connections."""

import load
from report import table
from rounds import Calm, cells, rounds, timed
from stage import titles

CONNECTIONS, STREAMS = 10, 32


def http2(stage, names, options):
    calm = Calm(options.retries)
    runs = rounds(names, options, calm, lambda name: measure(stage, name, options))
    rows = [["HTTP/2 over TLS 1.3, passed through as HTTP/1.1", *cells(runs)]]
    print(table(["CPU µs per request", *titles(names)], rows))
    print(f"In brackets: Bartizan's cost as a share of the peer's. {CONNECTIONS} connections with {STREAMS} streams "
          f"each, {options.rounds} rounds of {options.secs} s. {calm}")


def measure(stage, name, options):
    with stage.proxy(name, "plain") as proxy:
        return timed(stage, proxy, lambda seconds: send(stage, seconds), options)


def send(stage, seconds):
    return load.h2load(f"{stage.tls}/orders/1", "-c", CONNECTIONS, "-m", STREAMS, "-D", seconds)
