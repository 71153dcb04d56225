#!/usr/bin/env python3
"""How many records a second `bartizan replay` and `bartizan report unused` read, on one core.

The record is made here: callers of 200 consumers, by key and by token, on 60 routes, some of them refused. Both commands have one
thread; what is printed is records per second of CPU time, the best of some rounds.

    cargo build --release && benches/evidence.py
"""

import argparse
import json
import os
import pathlib
import random
import resource
import subprocess
import tempfile

CONSUMERS, ROUTES = 200, 60
GOAL = 300_000
ROOT = pathlib.Path(__file__).resolve().parent.parent


def policy():
    consumers = "".join(
        f'  c{number}: {{ roles: [r{number % 7}], plan: free, identities: [{{ issuer: one, id: "{number}" }}], '
        f'keys: [{{ id: k{number}, sha256: "{number:064x}", created: 2026-11-01T00:00:00Z }}] }}\n'
        for number in range(CONSUMERS)
    )
    roles = "".join(f"  r{role}: [{', '.join(f's{scope}' for scope in range(9 - role))}]\n" for role in range(7))
    routes = "".join(
        f"      GET /v1/collection{number}/{{id}}/items/{{item}}: {{ scopes: [s{number % 9}] }}\n" for number in range(ROUTES)
    )
    return (
        'version: 1\nlisten: [{ address: "127.0.0.1:0" }]\n'
        "auth: { issuers: { one: { issuer: https://one.example, audience: [a], algorithms: [RS256], max_lifetime: 1h, jwks: http://127.0.0.1:1/ } } }\n"
        f"plans: {{ free: {{ rate: 5/s }} }}\nroles:\n{roles}consumers:\n{consumers}"
        f"apis:\n  bench:\n    upstream: http://127.0.0.1:2\n    routes:\n{routes}audit: none\n"
    )


def line(number, dice):
    """A record as recorders write it, with 9 days from the first to the last."""
    consumer, route = dice.randrange(CONSUMERS), dice.randrange(ROUTES)
    scopes = [f"s{scope}" for scope in range(9 - consumer % 7)]
    is_refused = f"s{route % 9}" not in scopes
    seconds, by_key = number % 86_400, dice.random() < 0.5
    id = f"01a21cf7-b629-76b4-a028-{number:012x}"
    record = {
        "@timestamp": f"2026-11-{1 + number * 9 // line.count:02d}T{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.123Z",
        "ecs": {"version": "8.17.0"}, "client": {"ip": f"203.0.113.{number % 256}", "port": 50123}, "source": {"ip": "10.0.0.1"},
        "related": {"ip": [f"203.0.113.{number % 256}", "10.0.0.1"], "user": [f"c{consumer}"]}, "http": {
            "version": "1.1", "request": {"id": id, "method": "GET", "body": {"bytes": 0}},
            "response": {"status_code": 403 if is_refused else 200, "body": {"bytes": 512}}},
        "url": {"path": f"/v1/collection{route}/{number}/items/{number * 7}", "domain": "api.example.com", "scheme": "https"},
        "user_agent": {"original": "curl/8.5.0"}, "user": {"id": f"c{consumer}", "roles": [f"r{consumer % 7}"]},
        "tls": {"version": "1.3"}, "trace": {"id": f"{number:032x}"}, "span": {"id": f"{number:016x}"},
        "observer": {"name": "edge-1", "type": "proxy", "version": "0.1.0"}, "bartizan": {
            "consumer": f"c{consumer}", "api": "bench", "route": f"GET /v1/collection{route}/{{id}}/items/{{item}}",
            **({"stage": "scope"} if is_refused else {}), "plan": "free",
            "credential": {"kind": "api_key", "id": f"k{consumer}"} if by_key else {"kind": "jwt", "id": f"{number:016x}"},
            "scopes": {"required": [f"s{route % 9}"], "granted": scopes},
            **({} if is_refused else {"upstream": {"server": "http://127.0.0.1:2", "duration": 471234}}),
            "policy": "0" * 64, "node": "edge-1", "stream": "edge-1/01a21cf7b06771888923", "previous": f"{number:064x}"},
        "event": {
            "kind": "event", "category": ["api", "web"], "outcome": "failure" if is_refused else "success",
            "type": ["access", "denied" if is_refused else "allowed"], "action": "request",
            **({"reason": "insufficient_scope"} if is_refused else {}), "duration": 687341, "id": id, "sequence": number + 1,
            "hash": f"{number:064x}"},
    }
    return json.dumps(record, separators=(",", ":")) + "\n"


def measure(binary, folder, command, rounds):
    best = 0.0
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run([binary, *command, "audit.jsonl", "--format", "json"], cwd=folder, capture_output=True, text=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        result = json.loads(ended.stdout)
        assert result["requests"] == line.count and result["damaged"] == 0, ended.stderr
        assert not result.get("flips"), result["flips"][:3]
        best = max(best, line.count / (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    return best, after.ru_maxrss / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=os.environ.get("CARGO_TARGET_DIR", ROOT / "target"), help="the binary, or the target folder")
    parser.add_argument("--records", type=int, default=500_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    binary = pathlib.Path(arguments.binary)
    binary = binary / "release" / "bartizan" if binary.is_dir() else binary
    line.count, dice, is_met = arguments.records, random.Random(7), True
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "policy.yaml").write_text(policy())
        with open(pathlib.Path(folder) / "audit.jsonl", "w") as file:
            for number in range(arguments.records):
                file.write(line(number, dice))
        for name, command in [
            ("replay", ["replay", "--policy", "policy.yaml"]),
            ("report unused", ["report", "unused", "--policy", "policy.yaml"]),
        ]:
            rate, memory = measure(binary.resolve(), folder, command, arguments.rounds)
            is_met &= rate >= GOAL
            print(f"{name}: {rate:,.0f} records/s of CPU time ({memory:.1f} MiB at most)")
    raise SystemExit(0 if is_met else 1)


if __name__ == "__main__":
    main()
