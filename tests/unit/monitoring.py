"""A service to look at, without any of its work."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.fakes import settings
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Metrics
from worker.pipeline.slots import Slots
from worker.runtime.loop_watchdog import EventLoopWatchdog


class Judged:
    """Say of the health what the test wants said."""

    def __init__(self) -> None:
        self.polled_at: float | None = None
        self.not_live: list[str] = []
        self.not_ready: list[str] = []

    def why_not_live(self) -> list[str]:
        return self.not_live

    def why_not_ready(self) -> list[str]:
        return self.not_live + self.not_ready


class Watched:
    """A pipeline, as far as it is looked at."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.slots = Slots(10)
        self.health = Judged()


def view_of(watched: Watched | None, **changes: Any) -> ServiceStatus:
    """Show a pipeline, or a service that starts, on the clock of the loop."""
    view = ServiceStatus(
        settings(**changes), asyncio.Event(), EventLoopWatchdog(60), asyncio.get_running_loop().time
    )
    if watched is not None:
        view.begin(watched, lambda: 7)
    return view
