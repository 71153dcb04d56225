"""How results are printed: markdown, with what they were measured on."""

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path


def table(heads, rows):
    lines = [heads, ["---"] + ["--:"] * (len(heads) - 1), *rows]
    return "\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"


def mebibytes(size):
    return f"{size / 2**20:.1f} MiB"


def circumstances(programs):
    """The machine, the day, and the version of everything that had a part."""
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    processor = model[1] if model else platform.machine()
    machine = f"{processor}, {os.cpu_count()} cores, Linux {platform.release()}, {system}"
    versions = ", ".join(f"{name} {version(path)}" for name, path in programs.items() if name != "openssl")
    return f"\n{datetime.date.today()}; {machine}; {versions}."


def version(program):
    """The first thing that looks like a version in what the program says of itself."""
    for flag in ("-v", "--version"):
        done = subprocess.run([program, flag], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        found = re.search(r"\d+\.\d+\.\d+", done.stdout)
        if found:
            return found[0]
    return "of unknown version"
