"""Time in which a thread was not idle."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

# Linux kernel documentation, "Scheduler Statistics": nanoseconds on a core and waiting for one.
_STATISTICS: Final = Path("/proc/thread-self/schedstat")


def busy_seconds() -> float:
    """Return the seconds in which this thread ran, or was ready to run and waited for a core.

    Without statistics of the kernel, only the time in which it ran.
    """
    try:
        ran, waited, _ = _STATISTICS.read_bytes().split()
        return (int(ran) + int(waited)) / 1e9
    except (OSError, ValueError):
        return time.thread_time()
