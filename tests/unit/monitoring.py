"""Fakes of a pipeline for tests of monitoring."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.unit.fakes import settings
from worker.observability.service_status import PipelineStatus
from worker.pipeline.metrics import Metrics
from worker.pipeline.service_state import ServiceState
from worker.pipeline.slots import Slots
from worker.runtime.loop_watchdog import EventLoopWatchdog


class FakeState(ServiceState):
    """State of a service with settable reasons for not being live or ready."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.slots = Slots(10)
        self.polled_at: float | None = None
        self.not_live: list[str] = []
        self.not_ready: list[str] = []

    def why_not_live(self) -> list[str]:
        return self.not_live

    def why_not_ready(self) -> list[str]:
        return self.not_live + self.not_ready


class FakePipeline:
    """The parts of a pipeline that monitoring reads."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self.metrics = metrics or Metrics()
        self.health = FakeState(self.metrics)
        self.slots = self.health.slots


class FakeWatchdog(EventLoopWatchdog):
    """Event-loop watchdog with a settable lag."""

    lag_seconds = 0.0

    def __init__(self) -> None:
        super().__init__(60)


def status_of(
    pipeline: FakePipeline | None,
    watchdog: EventLoopWatchdog | None = None,
    clock: Callable[[], float] | None = None,
    **changes: Any,
) -> PipelineStatus:
    """Return the status of a service with a pipeline, or of one that is starting.

    Args:
        pipeline: the running pipeline, or None.
        watchdog: event-loop watchdog; one without lag by default.
        clock: returns monotonic seconds; the clock of the event loop by default.
        changes: settings.
    """
    status = PipelineStatus(
        settings(**changes),
        asyncio.Event(),
        watchdog or FakeWatchdog(),
        clock or asyncio.get_running_loop().time,
    )
    if pipeline is not None:
        begin(status, pipeline)
    return status


def begin(status: PipelineStatus, pipeline: FakePipeline) -> None:
    """Report the status of a pipeline whose limit of concurrent writes is 7."""
    status.begin(pipeline.health, lambda: 7)
