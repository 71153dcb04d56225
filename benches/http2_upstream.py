#!/usr/bin/env python3
"""What it costs the proxy to call servers over HTTP/2 without TLS, beside HTTP/1.1: CPU time of its process per request.

The server is another proxy that answers by itself, in either version. Clients are `wrk` (HTTP/1.1) and `h2load` (HTTP/2).

    cargo build --release && benches/http2_upstream.py --binary target/release/bartizan
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from record import BROKEN, figure, free_port, is_open, promise, wait

SERVER = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}", redirect: https }}, {{ address: "127.0.0.1:{other}" }}]
apis: {{ none: {{ upstream: "http://127.0.0.1:9", routes: {{ GET /: {{ public: true }} }} }} }}
audit: none
"""
PROXY = """\
version: 1
workers: 1
listen: [{{ address: "127.0.0.1:{port}" }}]
apis: {{ calls: {{ upstream: {{ servers: ["http://127.0.0.1:{server}"], protocol: {protocol} }}, routes: {{ GET /x: {{ public: true }} }} }} }}
audit: none
"""
MOST = 1.2


def cpu(process):
    """CPU time of a process so far, in seconds."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def start(options, folder, name, text, port):
    policy = folder / f"{name}.yaml"
    policy.write_text(text)
    process = subprocess.Popen([options.binary, "run", "--policy", policy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait(lambda: is_open(port), f"{name} listens")
    return process


def send(client, port, options):
    """Sends requests for some seconds; returns how many were answered."""
    url = f"http://127.0.0.1:{port}/x"
    commands = {
        "HTTP/1.1": ["wrk", "-t", "1", "-c", str(options.concurrent), "-d", f"{options.seconds}s", url],
        "HTTP/2": ["h2load", "-c", "4", "-m", str(options.concurrent // 4), "-D", str(options.seconds), url],
    }
    said = subprocess.run(commands[client], check=True, capture_output=True, text=True).stdout
    return int(re.search(r"(\d+) requests in|(\d+) done", said).group(0).split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="target/release/bartizan")
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrent", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        server_port, ports = free_port(), {"http1": free_port(), "h2c": free_port()}
        processes = [start(options, folder, "server", SERVER.format(port=server_port, other=free_port()), server_port)]
        try:
            proxies = {}
            for protocol, port in ports.items():
                text = PROXY.format(port=port, server=server_port, protocol=protocol)
                proxies[protocol] = start(options, folder, protocol, text, port)
                processes.append(proxies[protocol])
            for client in ["HTTP/1.1", "HTTP/2"]:
                costs = {protocol: [] for protocol in ports}
                for _ in range(options.rounds):
                    for protocol, port in ports.items():
                        before = cpu(proxies[protocol])
                        answered = send(client, port, options)
                        costs[protocol].append((cpu(proxies[protocol]) - before) * 1e6 / answered)
                http1, h2c = (statistics.median(costs[protocol]) for protocol in ports)
                ratio = statistics.median(two / one for one, two in zip(costs["http1"], costs["h2c"]))
                figure(f"{client} clients: {http1:.1f} µs to servers of HTTP/1.1, {h2c:.1f} µs over h2c: {ratio:.2f}")
                promise(ratio <= MOST, f"h2c costs at most {MOST} times what HTTP/1.1 does")
        finally:
            for process in processes:
                process.kill()
    sys.exit(1 if BROKEN else 0)


main()
