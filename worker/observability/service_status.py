"""What those who look at the service from outside are shown, from its start to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

from worker.pipeline.metrics import Metrics
from worker.pipeline.slots import Slots
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.settings import Settings


class HealthCheck(Protocol):
    """Whoever knows whether the work gets on."""

    polled_at: float | None

    def why_not_live(self) -> list[str]:
        """Say why the process had better be started anew."""

    def why_not_ready(self) -> list[str]:
        """Say what keeps the service from taking in messages."""


class PipelineStatus(Protocol):
    """The flow, as far as it is looked at."""

    @property
    def metrics(self) -> Metrics:
        """Everything that is counted."""

    @property
    def slots(self) -> Slots:
        """What bounds the messages in flight."""

    @property
    def health(self) -> HealthCheck:
        """Who judges the progress."""


class ServiceStatus:
    """Answer for a service that may still be starting.

    Args:
        settings: everything it can be told.
        stopping: set while it drains.
        guard: knows how late the event loop was.
        clock: gives seconds that only grow; the one of the flow.

    Attributes:
        metrics: all zero until the flow begins.
        slots: all free until then.
        identity: of the task that it runs in, as the log names it.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        guard: EventLoopWatchdog,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.stopping = stopping
        self.metrics = Metrics()
        self.slots = Slots(settings.slots)
        self.identity: dict[str, str] = {}
        self._flow_since: float | None = None
        self._guard = guard
        self._clock = clock
        self._judge: HealthCheck | None = None
        self._write_concurrency: Callable[[], int] = lambda: settings.aws.write_concurrency

    def begin(self, flow: PipelineStatus, write_concurrency: Callable[[], int]) -> None:
        """Show this flow from now on.

        Args:
            flow: what runs.
            write_concurrency: tells how many writes may be under way now.
        """
        self.metrics, self.slots, self._judge = flow.metrics, flow.slots, flow.health
        self._write_concurrency = write_concurrency
        self._flow_since = self._clock()

    @property
    def flow_seconds(self) -> float | None:
        """How long the flow has run; None before it begins."""
        return None if self._flow_since is None else self._clock() - self._flow_since

    @property
    def queue_name(self) -> str:
        """The queue's name, however the settings name it."""
        return self.settings.queue.rpartition("/")[2]

    @property
    def write_concurrency(self) -> int:
        """How many writes may be under way now."""
        return self._write_concurrency()

    @property
    def loop_lag_seconds(self) -> float:
        """How late the event loop was, at worst, in the last seconds."""
        return self._guard.lag_seconds

    @property
    def poll_age_seconds(self) -> float | None:
        """How long ago a poll was answered; None when none was."""
        if self._judge is None or self._judge.polled_at is None:
            return None
        return self._clock() - self._judge.polled_at

    @property
    def polled_at(self) -> float | None:
        """When a poll was answered last, in Unix seconds; None when none was."""
        age = self.poll_age_seconds
        return None if age is None else time.time() - age

    def why_not_live(self) -> list[str]:
        """Say why the process had better be started anew; nothing, if all is well."""
        reasons = [] if self._judge is None else self._judge.why_not_live()
        # At the whole of it the guard ends the process by itself.
        if self.loop_lag_seconds > self.settings.stall_seconds / 2:
            reasons.append(f"the event loop stood still for {self.loop_lag_seconds:.1f} s")
        return reasons

    def why_not_ready(self) -> list[str]:
        """Say what keeps the service from taking in messages; nothing, if all is well."""
        if self._judge is not None:
            return self._judge.why_not_ready()
        return ["draining" if self.stopping.is_set() else "starting"]
