"""Runs of the checks of `doctor`, shared by all viewers of the console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from worker.errors import AUPError
from worker.operations.doctor.checks import Groups

RunChecks = Callable[[], Awaitable[Groups]]


@dataclass(frozen=True, slots=True)
class CheckRun:
    """Results of one run.

    Attributes:
        groups: Results by subject.
        at: When they were finished.
    """

    groups: Groups
    at: datetime


class CheckRuns:
    """Runs the checks once for all who wait for them, and keeps the latest results.

    Args:
        run_checks: Runs the checks.
        now: Returns the current time, timezone-aware.

    Attributes:
        latest: Results of the latest run that ended; None before the first one.
        error: Why the latest run ended without results; empty if it did not.
    """

    def __init__(self, run_checks: RunChecks, now: Callable[[], datetime]) -> None:
        self.latest: CheckRun | None = None
        self.error = ""
        self._run_checks = run_checks
        self._now = now
        self._running: asyncio.Task[CheckRun | None] | None = None

    @property
    def is_running(self) -> bool:
        """Whether a run is in progress."""
        return self._running is not None and not self._running.done()

    def start(self) -> asyncio.Task[CheckRun | None]:
        """Start a run, unless one is in progress, and return it."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        return self._running

    async def run(self, timeout_seconds: float | None = None) -> CheckRun | None:
        """Run the checks, or wait for the run in progress.

        Args:
            timeout_seconds: How long to wait; the run continues afterwards.

        Returns:
            The results; None if they take longer or `error` says why there are none.
        """
        running = self.start()
        # A viewer who leaves must not cancel the run of the others.
        done, _ = await asyncio.wait((running,), timeout=timeout_seconds)
        return running.result() if done else None

    async def aclose(self) -> None:
        """Cancel the run in progress."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self) -> CheckRun | None:
        try:
            groups = await self._run_checks()
        except AUPError as error:
            self.error = str(error)
            return None
        self.latest, self.error = CheckRun(groups, self._now()), ""
        return self.latest
