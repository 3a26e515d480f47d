"""CPU that the command line needs before it does anything."""

from __future__ import annotations

import os
import subprocess
import sys
from statistics import median
from typing import Final

from tests.bench.stub.launch import ROOT

_RUNS: Final = 5


def help_cpu_seconds() -> float:
    """Return the median CPU of `aup-worker --help`, after one run that compiles the modules."""
    return median([_cpu_seconds() for _ in range(1 + _RUNS)][1:])


def _cpu_seconds() -> float:
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    process = subprocess.Popen(
        (sys.executable, "-m", "worker", "--help"),
        cwd=ROOT,
        env=kept,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args)
    return usage.ru_utime + usage.ru_stime
