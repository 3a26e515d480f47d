"""Read-only service status for endpoints and process managers."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from worker.pipeline.metrics import Metrics
from worker.pipeline.service_state import ServiceState
from worker.pipeline.slots import Slots
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.settings import Settings


class SlotFigures(Protocol):
    """Slots in use, as `Slots` counts them."""

    @property
    def in_flight(self) -> int:
        """Slots in use, by polls in flight or by messages."""

    @property
    def filled(self) -> int:
        """Slots that hold a message."""

    @property
    def bytes_in_flight(self) -> int:
        """Actual or expected size of the messages in flight."""

    @property
    def free(self) -> int:
        """Number of free slots."""


@dataclass(frozen=True, slots=True)
class ProcessFigures:
    """Figures of one of several processes.

    Attributes:
        number: Number of the process, from 1.
        process_id: Its id; None while it does not run.
        starts: How often it was started.
        is_ready: Whether it receives messages.
        held: Messages that it received and did not settle yet.
        loop_lag_seconds: Longest recent delay of its event loop.
    """

    number: int
    process_id: int | None
    starts: int
    is_ready: bool
    held: int
    loop_lag_seconds: float


class ServiceStatus(ABC):
    """Status of the service from its start to its end, in one process or in several.

    Args:
        settings: settings of the service.
        stopping: set while the service drains.

    Attributes:
        metrics: counters; all zero until messages are received.
        slots: limits on messages in flight; all free until messages are received.
        identity: fields of the ECS task, as in the log.
        write_concurrency: returns the current limit of concurrent writes.
    """

    metrics: Metrics
    slots: SlotFigures
    write_concurrency: Callable[[], int]

    def __init__(self, settings: Settings, stopping: asyncio.Event) -> None:
        self.settings = settings
        self.stopping = stopping
        self.identity: dict[str, str] = {}

    @property
    def queue_name(self) -> str:
        """Name of the queue, whether the settings have its name or its URL."""
        return self.settings.queue.rpartition("/")[2]

    @property
    def polled_at(self) -> float | None:
        """Unix time of the last response to a poll, or None without any."""
        age = self.poll_age_seconds
        return None if age is None else time.time() - age

    @property
    def processes(self) -> Sequence[ProcessFigures]:
        """Figures of each process; empty if the service is one process."""
        return ()

    @property
    @abstractmethod
    def loop_lag_seconds(self) -> float:
        """Longest recent delay of the event loop."""

    @property
    @abstractmethod
    def poll_age_seconds(self) -> float | None:
        """Seconds since the last response to a poll, or None without any."""

    @abstractmethod
    def why_not_started(self) -> list[str]:
        """Return the reasons why the start has not succeeded yet; empty once it has, for good.

        It has succeeded when queues, tables and permissions passed their checks and a poll got a
        response. Only then may the service replace a previous release.
        """

    @abstractmethod
    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the service; empty if it is live."""

    @abstractmethod
    def why_not_ready(self) -> list[str]:
        """Return the reasons why no messages are received; empty if it is ready."""


class PipelineStatus(ServiceStatus):
    """Status of a pipeline in this process.

    Args:
        settings: settings of the service.
        stopping: set while the service drains.
        watchdog: event-loop watchdog, which measures the lag of the loop.
        clock: returns monotonic seconds; the clock of the pipeline.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        watchdog: EventLoopWatchdog,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(settings, stopping)
        self.metrics = Metrics()
        self.slots = Slots(settings.slots)
        self._watchdog = watchdog
        self._clock = clock
        self._state: ServiceState | None = None
        self.write_concurrency = lambda: settings.aws.write_concurrency

    def begin(self, state: ServiceState, write_concurrency: Callable[[], int]) -> None:
        """Report the status of a running pipeline from now on.

        Args:
            state: its metrics, slots, liveness and readiness.
            write_concurrency: returns the current limit of concurrent writes.
        """
        self.metrics, self.slots, self._state = state.metrics, state.slots, state
        self.write_concurrency = write_concurrency

    @property
    def loop_lag_seconds(self) -> float:
        """Longest recent delay of the event loop."""
        return self._watchdog.lag_seconds

    @property
    def poll_age_seconds(self) -> float | None:
        """Seconds since the last response to a poll, or None without any."""
        if self._state is None or self._state.polled_at is None:
            return None
        return self._clock() - self._state.polled_at

    def why_not_started(self) -> list[str]:
        """Return the reasons why the start has not succeeded yet; empty once it has, for good."""
        # The pipeline polls only after the checks, and is not ready before its first response.
        return self.why_not_ready() if self.poll_age_seconds is None else []

    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the process; empty if it is live."""
        reasons = [] if self._state is None else self._state.why_not_live()
        # After AUP_STALL_SECONDS the watchdog ends the process itself.
        if self.loop_lag_seconds > self.settings.stall_seconds / 2:
            reasons.append(f"event loop blocked for {self.loop_lag_seconds:.1f} s")
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return the reasons why no messages are received; empty if it is ready."""
        if self._state is not None:
            return self._state.why_not_ready()
        return ["draining" if self.stopping.is_set() else "starting"]
