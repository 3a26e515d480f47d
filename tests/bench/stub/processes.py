"""CPU and memory of processes on Linux."""

from __future__ import annotations

import time
from pathlib import Path


def cpu_seconds(process_id: int) -> float:
    """Return the CPU time of a process and its threads with nanosecond resolution.

    Raises:
        OSError: The process does not exist.

    Source: clock_getcpuclockid(3); Linux derives the id of the clock from that of the process.
    """
    return time.clock_gettime((~process_id << 3) | 2)


def with_children(process_id: int) -> list[int]:
    """Return a process and all processes that descend from it."""
    found = [process_id]
    for each in found:
        try:
            children = Path(f"/proc/{each}/task/{each}/children").read_text()
        except OSError:
            continue  # it has just exited
        found += map(int, children.split())
    return found


def memory_mb(process_id: int, field: str = "VmRSS") -> float:
    """Return the resident memory of a process in MiB; `VmHWM` is the peak.

    Raises:
        OSError: The process does not exist.
        ValueError: The kernel does not report the field.
    """
    for line in Path("/proc", str(process_id), "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {process_id} has no field {field}")
