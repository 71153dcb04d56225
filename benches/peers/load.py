"""The load: wrk for HTTP/1.1, h2load for HTTP/2, fixed rates and fixed numbers of requests."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from child import Trouble

CONNECTIONS = 64
REQUESTS = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True)
class Counted:
    """What a load generator saw. Every answer was a good one, or there is no such value."""

    requests: int
    seconds: float

    @property
    def rate(self):
        return self.requests / self.seconds


def wrk(url, path, seconds, method="GET", credentials="-", body="-"):
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--timeout", "10s", "-s", REQUESTS, url,
               "--", method, path, credentials, body]
    printed = output(command)
    try:
        said = json.loads(printed.splitlines()[-1])
    except (ValueError, IndexError):
        raise Trouble(f"wrk printed no counts:\n{printed}") from None
    if said["refused"] or said["broken"] or not said["requests"]:
        counts = ", ".join(f"{said[what]} {what}" for what in ("requests", "refused", "broken"))
        raise Trouble(f"{method} {url}{path}: {counts}")
    return Counted(said["requests"], said["microseconds"] / 1e6)


def h2load(url, *options):
    printed = output(["h2load", "-t1", *options, url])
    finished = re.search(r"finished in ([\d.]+)(us|ms|s),", printed)
    done = re.search(r"(\d+) done", printed)
    # At the end of a timed run some answers have a status and are not done.
    good = re.search(r"status codes: \d+ 2xx, 0 3xx, 0 4xx, 0 5xx", printed)
    clean = re.search(r", 0 failed, 0 errored, 0 timeout", printed)
    if not (finished and done and good and clean) or int(done[1]) == 0:
        raise Trouble(f"h2load had answers that were not 2xx from {url}:\n{printed}")
    return Counted(int(done[1]), float(finished[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1}[finished[2]])


def bearer(credentials):
    """An h2load option with the first credential of such a file as wrk takes."""
    return f"--header=authorization: {credentials.read_text().splitlines()[0]}"


def output(command):
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Trouble(f"{command[0]} failed:\n{done.stdout}")
    return done.stdout
