"""Runs in interleaved rounds, what a run costs the proxy, and whether others were in the way."""

import sys
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from child import core_seconds

OTHERS = 0.05                                     # of the proxy's core: a run in which others had more is disturbed


@dataclass(frozen=True)
class Run:
    micros: float                                 # CPU time of the proxy for one request
    rate: float                                   # requests per second
    others: float                                 # the share of the proxy's core that went to other processes


def timed(stage, proxy, send, options):
    """`send(seconds)` loads the proxy: once to warm it, once to measure."""
    send(options.warm)
    own, core = proxy.cpu_seconds(), core_seconds(stage.proxy_cpu)
    counted = send(options.secs)
    own, core = proxy.cpu_seconds() - own, core_seconds(stage.proxy_cpu) - core
    return Run(own / counted.requests * 1e6, counted.rate, max(0, core - own) / counted.seconds)


class Disturbance:
    """Repeats runs that other processes disturbed, and tells how many there were."""

    def __init__(self, retries):
        self.retries, self.runs, self.disturbed, self.kept = retries, 0, 0, 0

    def calmest(self, measure):
        """The first calm run; failing that, after a bounded number of tries, the calmest."""
        tries = []
        for _ in range(self.retries + 1):
            tries.append(measure())
            self.runs += 1
            if tries[-1].others <= OTHERS:
                return tries[-1]
            self.disturbed += 1
        self.kept += 1
        return min(tries, key=lambda run: run.others)

    def __str__(self):
        return (f"{self.disturbed} of {self.runs} runs ({self.disturbed / self.runs:.0%}) were disturbed: other "
                f"processes had more than {OTHERS:.0%} of the proxy's core. Each was repeated up to {self.retries} times; "
                f"{self.kept} disturbed ones had to be counted.")


def rounds(names, options, disturbance, measure):
    """{name: its runs}, made in the order A B C A B C, so that what drifts drifts for all of them."""
    runs = defaultdict(list)
    for number in range(options.rounds):
        for name in names:
            run = disturbance.calmest(lambda: measure(name))
            print(f"  round {number + 1}: {name} {run.micros:.1f} µs, {run.rate:,.0f}/s, others {run.others:.1%}",
                  file=sys.stderr)
            runs[name].append(run)
    return runs


def cells(runs):
    """Medians, and for each peer the median of the ratios within a round."""
    ours = runs["bartizan"]
    for name, theirs in runs.items():
        micros = f"{median(run.micros for run in theirs):.1f}"
        ratio = median(our.micros / their.micros for our, their in zip(ours, theirs))
        yield micros if name == "bartizan" else f"{micros} ({ratio:.2f})"
