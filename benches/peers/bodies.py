"""Large bodies, streamed: how many bytes a CPU second carries, and what it takes in memory."""

from statistics import median

import load
from report import mebibytes, table
from stage import titles

SIZES = {"64 KiB": 64 << 10, "1 MiB": 1 << 20, "64 MiB": 64 << 20}
CONNECTIONS = 8


def bodies(stage, names, options):
    rows = []
    for upload in (False, True):
        for words, size in SIZES.items():
            rounds = [[carry(stage, name, size, upload, options.volume << 20) for name in names]
                      for _ in range(options.rounds)]
            rows.append([f"{'upload' if upload else 'download'} of {words}", *map(cell, zip(*rounds))])
    print(table(["GiB per CPU second (peak RSS)", *titles(names)], rows))
    print(f"Plain configurations in clear, {CONNECTIONS} connections, {options.volume} MiB a run, medians of "
          f"{options.rounds} rounds. Nothing waits on a disk: nginx passes uploads on unbuffered and keeps in memory "
          f"what it has to keep of downloads.")


def cell(runs):
    speeds, peaks = zip(*runs)
    return f"{median(speeds):.2f} ({mebibytes(max(peaks))})"


def carry(stage, name, size, upload, volume):
    """(GiB per CPU second, peak RSS) of a fresh proxy."""
    file = stage.file(f"{size}", size)
    count = max(CONNECTIONS, volume // size)
    with stage.proxy(name, "plain") as proxy:
        used = proxy.cpu_seconds()
        url, body = (f"{stage.clear}/upload", ["-d", file]) if upload else (f"{stage.clear}/files/{file.name}", [])
        load.h2load(url, "--h1", "-c", CONNECTIONS, "-n", count, *body)
        used = proxy.cpu_seconds() - used
        return count * size / used / 2**30, proxy.resident("VmHWM")
