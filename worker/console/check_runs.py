"""Runs of the checks of `doctor`, shared by all viewers of the console."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

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
        latest: Results of the latest run; None before the first one.
    """

    def __init__(self, run_checks: RunChecks, now: Callable[[], datetime]) -> None:
        self.latest: CheckRun | None = None
        self._run_checks = run_checks
        self._now = now
        self._running: asyncio.Task[CheckRun] | None = None

    async def run(self) -> CheckRun:
        """Run the checks, or wait for the run in progress.

        Raises:
            SettingsError: Region or profile are missing or invalid.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._run())
        # A viewer who leaves must not cancel the run of the others.
        return await asyncio.shield(self._running)

    async def _run(self) -> CheckRun:
        self.latest = CheckRun(await self._run_checks(), self._now())
        return self.latest
