"""A second worker: does a request cost more when two share the work?"""

from statistics import median

import load
from report import table


def scale(stage, _names, options):
    """Everybody may use all cores, in both rows; only the number of workers differs."""
    runs = {1: [], 2: []}
    for _ in range(options.rounds):
        for workers, found in runs.items():
            found.append(measure(stage, workers, options))
    rows = [[workers, *row(found, runs[1])] for workers, found in runs.items()]
    heads = ["Bartizan's workers", "requests/s", "CPU s per s", "requests per CPU second", "share of one worker's"]
    print(table(heads, rows))
    print("The load generator and the upstream share the cores with the proxy, in both rows: requests per second "
          "are theirs as much as the proxy's. What scaling costs is in the requests per second of the proxy's CPU time.")


def measure(stage, workers, options):
    """(requests per second, CPU seconds of the proxy per second), for the `jwt` workload."""
    with stage.everywhere(), stage.proxy("bartizan", "secured", workers, stage.all_cpus) as proxy:
        load.wrk(stage.clear, "/orders/1", options.warm, credentials=stage.one_token)
        used = proxy.cpu_seconds()
        counted = load.wrk(stage.clear, "/orders/1", options.secs, credentials=stage.one_token)
        return counted.rate, (proxy.cpu_seconds() - used) / counted.seconds


def row(found, base):
    """Medians; the share is the median of the shares within a round."""
    rate, cpus = (median(each) for each in zip(*found))
    efficiency = [rate / cpus for rate, cpus in found]
    share = median(one * base_cpus / base_rate for one, (base_rate, base_cpus) in zip(efficiency, base))
    return f"{rate:,.0f}", f"{cpus:.2f}", f"{median(efficiency):,.0f}", f"{share:.2f}"
