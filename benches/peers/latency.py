"""Latency at a fixed rate, which is a share of what the peer can do at most."""

from statistics import median

import load
from report import table
from stage import PROXIES

SHARE = 0.7


def latency(stage, names, options):
    """Each peer's own rate, and Bartizan at that same rate."""
    rows = []
    for peer in names[1:]:
        with stage.proxy(peer, "secured"):
            load.wrk(stage.clear, "/orders/1", options.warm, credentials=stage.one_token)
            rate = SHARE * load.wrk(stage.clear, "/orders/1", options.secs, credentials=stage.one_token).rate
        runs = [[at_rate(stage, name, rate, options) for name in (peer, "bartizan")] for _ in range(options.rounds)]
        rows += [row(*pair) for pair in zip((peer, "bartizan"), zip(*runs))]
    print(table(["`jwt` workload", "asked for", "answered", "p50", "p99"], rows))
    print(f"The rate is {SHARE:.0%} of what the peer of the pair did at most, on {load.CONNECTIONS} connections; "
          f"medians of {options.rounds} rounds of {options.secs} s. A request that comes due while its connection still "
          f"waits for an answer is sent after it, and timed from there.")


def at_rate(stage, name, rate, options):
    """(requests per second asked for, answered, median ms, 99th percentile ms)."""
    log = stage.folder / "latencies"
    command = ["--h1", "-c", load.CONNECTIONS, f"--rps={rate / load.CONNECTIONS}", load.bearer(stage.one_token)]
    with stage.proxy(name, "secured"):
        load.h2load(f"{stage.clear}/orders/1", *command, "-D", options.warm)
        log.unlink(missing_ok=True)
        counted = load.h2load(f"{stage.clear}/orders/1", *command, "-D", options.secs, f"--log-file={log}")
    times = sorted(int(line.split("\t")[2]) / 1000 for line in log.read_text().splitlines())
    return rate, counted.rate, times[len(times) // 2], times[len(times) * 99 // 100]


def row(name, runs):
    asked, answered, half, most = (median(each) for each in zip(*runs))
    return [PROXIES[name].title, f"{asked:,.0f}/s", f"{answered:,.0f}/s", f"{half:.2f} ms", f"{most:.2f} ms"]
