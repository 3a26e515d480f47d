"""Read-only service status for endpoints and process managers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from worker.pipeline.health import Health
from worker.pipeline.metrics import Metrics
from worker.pipeline.slots import Slots
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.settings import Settings


class ServiceStatus:
    """Status of the service from its start to its end.

    Args:
        settings: settings of the service.
        stopping: set while the service drains.
        watchdog: event-loop watchdog, which measures the lag of the loop.
        clock: returns monotonic seconds; the clock of the pipeline.

    Attributes:
        metrics: counters; all zero until the pipeline starts.
        slots: limits on messages in flight; all free until the pipeline starts.
        identity: fields of the ECS task, as in the log.
        write_concurrency: returns the current limit of concurrent writes.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        watchdog: EventLoopWatchdog,
        clock: Callable[[], float],
    ) -> None:
        self.settings = settings
        self.stopping = stopping
        self.metrics = Metrics()
        self.slots = Slots(settings.slots)
        self.identity: dict[str, str] = {}
        self._started_at: float | None = None
        self._watchdog = watchdog
        self._clock = clock
        self._health: Health | None = None
        self.write_concurrency: Callable[[], int] = lambda: settings.aws.write_concurrency

    def begin(
        self, metrics: Metrics, slots: Slots, health: Health, write_concurrency: Callable[[], int]
    ) -> None:
        """Report the status of a running pipeline from now on.

        Args:
            metrics: its counters.
            slots: its limits on messages in flight.
            health: its liveness and readiness.
            write_concurrency: returns the current limit of concurrent writes.
        """
        self.metrics, self.slots, self._health = metrics, slots, health
        self.write_concurrency = write_concurrency
        self._started_at = self._clock()

    @property
    def running_seconds(self) -> float | None:
        """Seconds since the pipeline started, or None before."""
        return None if self._started_at is None else self._clock() - self._started_at

    @property
    def queue_name(self) -> str:
        """Name of the queue, whether the settings have its name or its URL."""
        return self.settings.queue.rpartition("/")[2]

    @property
    def loop_lag_seconds(self) -> float:
        """Longest recent delay of the event loop."""
        return self._watchdog.lag_seconds

    @property
    def poll_age_seconds(self) -> float | None:
        """Seconds since the last response to a poll, or None without any."""
        if self._health is None or self._health.polled_at is None:
            return None
        return self._clock() - self._health.polled_at

    @property
    def polled_at(self) -> float | None:
        """Unix time of the last response to a poll, or None without any."""
        age = self.poll_age_seconds
        return None if age is None else time.time() - age

    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the process; empty if it is live."""
        reasons = [] if self._health is None else self._health.why_not_live()
        # After AUP_STALL_SECONDS the watchdog ends the process itself.
        if self.loop_lag_seconds > self.settings.stall_seconds / 2:
            reasons.append(f"event loop blocked for {self.loop_lag_seconds:.1f} s")
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return the reasons why no messages are received; empty if it is ready."""
        if self._health is not None:
            return self._health.why_not_ready()
        return ["draining" if self.stopping.is_set() else "starting"]
