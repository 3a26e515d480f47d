"""Scans that count acceptances by day, started on request; one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.errors import AUPError, UsageError
from worker.operations.evidence.coverage import (
    READ_UNITS_PER_SECOND,
    SEGMENTS,
    Coverage,
    CoverageScan,
)
from worker.repository import AUPRepository, TableSize

_KEPT_MAX: Final = 20


@dataclass(slots=True)
class CoverageRun:
    """One scan, running or finished.

    Attributes:
        policy: Policy id.
        version: Policy version.
        size: Size of the table at the start.
        started_at: When it was started.
        found: What it has counted so far.
        finished_at: When it ended; None while it runs.
        error: Why it failed; empty if it did not.
    """

    policy: str
    version: str
    size: TableSize
    started_at: datetime
    found: Coverage = field(default_factory=Coverage)
    finished_at: datetime | None = None
    error: str = ""


class CoverageScans:
    """Runs scans in the background and keeps the latest result of each version.

    Args:
        repository: Repository of the acceptances.
        now: Returns the current time, timezone-aware.
    """

    def __init__(self, repository: AUPRepository, now: Callable[[], datetime]) -> None:
        self._repository = repository
        self._now = now
        self._runs: dict[tuple[str, str], CoverageRun] = {}
        self._task: asyncio.Task[None] | None = None
        self._running: CoverageRun | None = None

    @property
    def running(self) -> CoverageRun | None:
        """The scan that runs; None if none does."""
        return self._running

    def latest(self, policy: str, version: str) -> CoverageRun | None:
        """Return the latest scan of a version; None if there was none since the start."""
        return self._runs.get((policy, version))

    def start(self, policy: str, version: str, size: TableSize) -> CoverageRun:
        """Start a scan.

        Raises:
            UsageError: Another one runs.
        """
        if self._running is not None:
            raise UsageError(
                f"a scan for {self._running.policy} {self._running.version} runs already; "
                "wait for its end or cancel it"
            )
        run = CoverageRun(policy, version, size, self._now())
        self._runs.pop((policy, version), None)
        self._runs[policy, version] = self._running = run
        if len(self._runs) > _KEPT_MAX:
            del self._runs[next(iter(self._runs))]
        self._task = asyncio.create_task(self._run(run))
        return run

    async def cancel(self) -> None:
        """Cancel the scan that runs, if any; what it has read so far is not kept."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, run: CoverageRun) -> None:
        scan = CoverageScan(
            self._repository,
            f"{run.policy}#{run.version}",
            run.size,
            units_per_second=READ_UNITS_PER_SECOND,
            segments=SEGMENTS,
        )
        run.found = scan.coverage
        try:
            await scan.run()
        except AUPError as error:
            run.error = str(error)
        except asyncio.CancelledError:
            run.error = "cancelled before the end"
            raise
        finally:
            run.finished_at = self._now()
            self._running = None
