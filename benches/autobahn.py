#!/usr/bin/env python3
"""The cases of Autobahn's fuzzing client through the proxy, and without it: the verdicts must be the same.

The client sends valid and invalid traffic, some 500 cases, to its own echo server: frames of all sizes, fragments, Pings, reserved bits,
invalid UTF-8, closing handshakes, and compressed messages. It needs Python 2.7; `--install` gets the client from PyPI into target/. The
script prints the verdicts, and exits with 1 if one of them differs through the proxy.

    cargo build --release && benches/autobahn.py --install
"""

import argparse
import collections
import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

from record import BROKEN, figure, free_port, is_open, promise, wait

TARGET = pathlib.Path(__file__).resolve().parents[1] / "target"
PACKAGES = TARGET / "autobahn"
CLIENT = "autobahntestsuite==25.10.1"
START = "import sys; sys.argv[0] = 'wstest'; from autobahntestsuite.wstest import run; run()"
POLICY = """\
version: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
apis:
  echo:
    upstream: http://127.0.0.1:{upstream}
    routes: {{ "GET /": {{ public: true, upgrade: {{ websocket: {{}} }} }} }}
audit: [{{ file: {{ path: audit.jsonl }} }}]
"""


def install(python):
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--target", PACKAGES, CLIENT], check=True)
    # `zope` is a namespace package that a .pth file declares, which is not read from this folder.
    (PACKAGES / "zope" / "__init__.py").touch()


def wstest(python, folder, *arguments):
    return [python, "-c", START, *arguments], {"cwd": folder, "env": {**os.environ, "PYTHONPATH": str(PACKAGES)},
                                               "stdout": open(folder / "log", "ab"), "stderr": subprocess.STDOUT}


@contextlib.contextmanager
def running(command, settings, port, what):
    process = subprocess.Popen(command, **settings)
    try:
        wait(lambda: process.poll() is not None or is_open(port), what)
        if process.poll() is not None:
            raise SystemExit(f"{what} ended with {process.returncode}:\n{pathlib.Path(settings['cwd'], 'log').read_text()}")
        yield
    finally:
        process.terminate()
        process.wait(30)


def verdicts(options, folder, name, port):
    """What the client says of each case: how it went, and how it ended."""
    specification = {"outdir": str(folder / name), "servers": [{"agent": name, "url": f"ws://127.0.0.1:{port}"}],
                     "cases": options.cases, "exclude-cases": [], "exclude-agent-cases": {}}
    (folder / "specification.json").write_text(json.dumps(specification))
    command, settings = wstest(options.python, folder, "--mode=fuzzingclient", "--spec=specification.json")
    subprocess.run(command, check=True, **settings)
    cases = json.loads((folder / name / "index.json").read_text())[name]
    return {case: (said["behavior"], said["behaviorClose"]) for case, said in cases.items()}


def run(options, folder):
    port, upstream = free_port(), free_port()
    (folder / "policy.yaml").write_text(POLICY.format(port=port, upstream=upstream))
    server, settings = wstest(options.python, folder, "--mode=testeeserver", f"--wsuri=ws://127.0.0.1:{upstream}")
    proxy = [os.path.abspath(options.binary), "run", "--policy", "policy.yaml"]
    with running(server, settings, upstream, "the echo server"), running(proxy, settings | {"env": None}, port, "the proxy"):
        through = verdicts(options, folder, "through", port)
        direct = verdicts(options, folder, "direct", upstream)
    for name, said in (("through the proxy", through), ("without it", direct)):
        counted = collections.Counter(verdict for verdict, _ in said.values())
        figure(f"{name}: {len(said)} cases, " + ", ".join(f"{count} {verdict}" for verdict, count in counted.most_common()))
    promise(through and through.keys() == direct.keys(), "all cases are run")
    for case in sorted(direct):
        promise(through.get(case) == direct[case], f"case {case} is {through.get(case)} through the proxy, and {direct[case]} without it")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/bartizan")
    parser.add_argument("--python", default="python2.7", help="a Python 2.7; default: %(default)s")
    parser.add_argument("--install", action="store_true", help="get the client with the pip of that Python")
    parser.add_argument("--cases", nargs="+", default=["*"], help="such as 1.* 7.5.1; default: all, which takes some 20 minutes")
    options = parser.parse_args()
    options.python = shutil.which(options.python)
    if not options.python:
        parser.error("Python 2.7 was not found; name one with --python")
    if options.install:
        install(options.python)
    if not PACKAGES.exists():
        parser.error("the client is not installed; get it with --install")
    with tempfile.TemporaryDirectory(prefix="bartizan-autobahn-") as folder:
        run(options, pathlib.Path(folder))
    sys.exit(1 if BROKEN else 0)


if __name__ == "__main__":
    main()
