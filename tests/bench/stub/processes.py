"""What Linux tells of a process."""

from __future__ import annotations

import time
from pathlib import Path


def cpu_seconds(process_id: int) -> float:
    """Read the CPU time of a process and its threads, to the nanosecond.

    Raises:
        OSError: there is no such process.

    Source: clock_getcpuclockid(3); Linux makes the clock's number from the process's.
    """
    return time.clock_gettime((~process_id << 3) | 2)


def memory_mb(process_id: int, field: str = "VmRSS") -> float:
    """Read a process's resident memory in MiB; `VmHWM` is the peak.

    Raises:
        OSError: there is no such process.
        ValueError: it does not tell.
    """
    for line in Path("/proc", str(process_id), "status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"process {process_id} tells no {field}")
