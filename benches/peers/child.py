"""A process of ours: started on chosen CPUs, watched through /proc, ended with its whole group."""

import os
import signal
import socket
import subprocess
import time
from pathlib import Path


class Trouble(Exception):
    """What makes going on pointless; its text is for the person who called."""


class Child:
    """A server that listens on `ports`. Use it in a `with`: it is ready inside, and gone after."""

    def __init__(self, command, ports, cpus, folder):
        self.command = ["taskset", "-c", ",".join(map(str, sorted(cpus))), *map(str, command)]
        self.ports = ports
        self.log = Path(folder) / "log"          # its standard output, or what its configuration calls @log@
        self.errors = Path(folder) / "errors"

    def __enter__(self):
        if any(map(listens, self.ports)):
            raise Trouble(f"something listens on one of {self.ports} already; choose other ports with --port")
        with self.log.open("ab") as log, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, start_new_session=True)
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def _wait_until_ready(self):
        deadline = time.monotonic() + 15
        while not all(map(listens, self.ports)):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Trouble(f"{self.command[3]} did not start:\n{self.errors.read_text()}")
            time.sleep(0.05)

    def stop(self):
        if self.process.returncode is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(self.process.pid, signal.SIGKILL)     # its own group: start_new_session
        except ProcessLookupError:
            pass
        self.process.wait()

    def processes(self):
        """The process and all that descend from it."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found.extend(map(int, children.read_text().split()))
        return found

    def cpu_seconds(self):
        """The run time of all its threads. A thread that has ended takes its time with it."""
        paths = (path for pid in self.processes() for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        return sum(int(path.read_text().split()[0]) for path in paths) / 1e9

    def resident(self, field="VmRSS"):
        """Bytes of memory, by a field of /proc/PID/status: VmRSS is now, VmHWM was the most."""
        return sum(_status(pid, field) for pid in self.processes())


def _status(pid, field):
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    raise Trouble(f"/proc/{pid}/status has no {field}")


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def core_seconds(cpu):
    """For how long a core was busy, by anybody, as /proc/stat has it."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{cpu}":
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    raise Trouble(f"there is no CPU {cpu}")
