"""Growth: whether memory comes to rest while requests keep coming."""

import os
import time

import load
from report import mebibytes, table

STEPS = 10


def soak(stage, _names, options):
    """In steps, between which the record is emptied: it lies in memory, too."""
    with stage.proxy("bartizan", "secured") as proxy:
        load.wrk(stage.clear, "/orders/1", max(options.warm, 5), credentials=stage.many_tokens)
        sizes, requests, started = [proxy.resident()], 0, time.monotonic()
        for _ in range(STEPS):
            step = max(1, options.soak // STEPS)
            requests += load.wrk(stage.clear, "/orders/1", step, credentials=stage.many_tokens).requests
            os.truncate(proxy.log, 0)
            sizes.append(proxy.resident())
        seconds, peak = time.monotonic() - started, proxy.resident("VmHWM")
    row = [f"{seconds:.0f} s, 1,000 tokens in turn", f"{requests:,}",
           *map(mebibytes, (sizes[0], sizes[STEPS // 2], sizes[-1], peak))]
    print(table(["Bartizan under load", "requests", "RSS warmed", "half-way", "at the end", "peak"], [row]))
