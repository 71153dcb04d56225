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
    busy: float                                   # the share of its core that the proxy used
    others: float                                 # the share that went to other processes


def timed(stage, proxy, send, options):
    """`send(seconds)` loads the proxy: once to warm it, once to measure."""
    send(options.warm)
    own, core = proxy.cpu_seconds(), core_seconds(stage.proxy_cpu)
    counted = send(options.secs)
    own, core = proxy.cpu_seconds() - own, core_seconds(stage.proxy_cpu) - core
    seconds = counted.seconds
    return Run(own / counted.requests * 1e6, counted.rate, own / seconds, max(0, core - own) / seconds)


class Calm:
    """Repeats runs that other processes disturbed, and tells how many there were."""

    def __init__(self, retries):
        self.retries, self.runs, self.disturbed, self.kept, self.busy = retries, 0, 0, 0, []

    def calmest(self, measure):
        """The first calm run; failing that, after a bounded number of tries, the calmest."""
        tries = []
        for _ in range(self.retries + 1):
            tries.append(measure())
            self.runs += 1
            if tries[-1].others <= OTHERS:
                break
            self.disturbed += 1
        best = min(tries, key=lambda run: run.others)
        self.kept += best.others > OTHERS
        self.busy.append(best.busy)
        return best

    def __str__(self):
        share = self.disturbed / self.runs
        return (f"The proxy used {median(self.busy):.0%} of its core in the median run, {min(self.busy):.0%} in the "
                f"idlest. {self.disturbed} of {self.runs} runs ({share:.0%}) were disturbed: other processes had more "
                f"than {OTHERS:.0%} of that core. They were repeated, up to {self.retries} times; {self.kept} disturbed "
                f"ones had to be counted.")


def rounds(names, options, calm, measure):
    """{name: its runs}, made in the order A B C A B C, so that what drifts drifts for all of them."""
    runs = defaultdict(list)
    for number in range(options.rounds):
        for name in names:
            run = calm.calmest(lambda: measure(name))
            print(f"  round {number + 1}: {name} {run.micros:.1f} µs, {run.rate:,.0f}/s, busy {run.busy:.0%}, "
                  f"others {run.others:.1%}", file=sys.stderr)
            runs[name].append(run)
    return runs


def cells(runs):
    """Medians, and for each peer the median of the ratios within a round."""
    ours = runs["bartizan"]
    for name, theirs in runs.items():
        micros = f"{median(run.micros for run in theirs):.1f}"
        ratio = median(our.micros / their.micros for our, their in zip(ours, theirs))
        yield micros if name == "bartizan" else f"{micros} ({ratio:.2f})"
