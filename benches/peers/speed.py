"""The main table: CPU time per request, for the same work, beside peers."""

import sys
from dataclasses import dataclass

import load
from report import table
from rounds import Calm, cells, rounds, timed
from stage import titles


@dataclass(frozen=True)
class Workload:
    words: str
    mode: str = "secured"
    method: str = "GET"
    tokens: int = 1
    tls: bool = False


WORKLOADS = {
    "plain": Workload("GET passed through, nothing checked, no record", mode="plain"),
    "jwt": Workload("RS256 token, scope, limit per subject, JSON record"),
    "schema": Workload("as `jwt`, POST of 1 KiB JSON (only Bartizan validates it)", method="POST"),
    "tokens": Workload("as `jwt`, 1,000 tokens in turn", tokens=1000),
    "tls": Workload("as `jwt`, over TLS 1.3", tls=True),
}


def speed(stage, names, options):
    rows, calm = [], Calm(options.retries)
    for key in options.workloads:
        workload = WORKLOADS[key]
        print(f"{key}: {workload.words}", file=sys.stderr)
        runs = rounds(names, options, calm, lambda name: measure(stage, name, workload, options))
        rows.append([f"`{key}`: {workload.words}", *cells(runs)])
    print(table(["CPU µs per request", *titles(names)], rows))
    print(f"In brackets: Bartizan's cost as a share of the peer's, as the median of the ratios within a round. "
          f"{options.rounds} rounds of {options.secs} s; one worker each, alone on its core; {load.CONNECTIONS} "
          f"connections. {calm}")


def measure(stage, name, workload, options):
    with stage.proxy(name, workload.mode) as proxy:
        return timed(stage, proxy, lambda seconds: send(stage, workload, seconds), options)


def send(stage, workload, seconds):
    url = stage.tls if workload.tls else stage.clear
    credentials = "-" if workload.mode == "plain" else stage.one_token if workload.tokens == 1 else stage.many_tokens
    if workload.method == "POST":
        return load.wrk(url, "/orders", seconds, "POST", credentials, stage.order)
    return load.wrk(url, "/orders/1", seconds, "GET", credentials)
