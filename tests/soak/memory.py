"""Memory of a worker that is never killed, after its warm-up."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

_WARM_UP: Final = 0.3
_WARM_UP_MAX_SECONDS: Final = 120.0
_WINDOW: Final = 0.15
_INTERVAL_SECONDS: Final = 1.0


def resident_kib(process_id: int) -> int | None:
    """Return the resident memory of a process in KiB; None if it is not available."""
    try:
        text = Path("/proc", str(process_id), "status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in text.splitlines() if "VmRSS" in line), None)


@dataclass
class Memory:
    """Memory samples of one process; a new process starts a new series."""

    process_id: int = 0
    samples: list[tuple[float, int]] = field(default_factory=list)

    def sample(self, process_id: int) -> None:
        """Add a sample, at most one per second."""
        now = time.monotonic()
        if process_id != self.process_id:
            self.process_id = process_id
            self.samples.clear()
        if self.samples and now - self.samples[-1][0] < _INTERVAL_SECONDS:
            return
        resident = resident_kib(process_id)
        if resident is not None:
            self.samples.append((now, resident))

    def figures(self) -> dict[str, float | None]:
        """Return the medians of the first window after the warm-up and of the last window."""
        if len(self.samples) < 10:
            return {"rss_first_kib": None, "rss_last_kib": None, "rss_drift_percent": None}
        start, end = self.samples[0][0], self.samples[-1][0]
        warm = start + min(_WARM_UP_MAX_SECONDS, _WARM_UP * (end - start))
        window = _WINDOW * (end - start)
        first = median(kib for at, kib in self.samples if warm <= at <= warm + window)
        last = median(kib for at, kib in self.samples if at >= end - window)
        drift = 100 * (last - first) / first
        return {
            "rss_first_kib": first,
            "rss_last_kib": last,
            "rss_drift_percent": round(drift, 2),
        }
