"""Status of queues and workers, observed once for all viewers of the console."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import Queue
from worker.errors import AWSError
from worker.operations.status.observer import Observer, ReasonCounts, Status
from worker.runtime.clock import utc_now

# As often as `status --watch` by default.
INTERVAL_SECONDS: Final = 2.0
_HISTORY_SAMPLES: Final = 180
# Without viewers nothing is observed; the time without samples is a gap in the charts.
_GAP_INTERVALS: Final = 3
Series = deque[float | None]


def _series() -> Series:
    return deque(maxlen=_HISTORY_SAMPLES)


@dataclass(slots=True)
class History:
    """Figures over time, oldest first; None where nothing was observed."""

    visible: Series = field(default_factory=_series)
    in_flight: Series = field(default_factory=_series)
    rate: Series = field(default_factory=_series)
    dead_letters: Series = field(default_factory=_series)

    def add(self, status: Status) -> None:
        """Append the figures of a status."""
        self.visible.append(status.queue.state.visible)
        self.in_flight.append(status.queue.state.in_flight)
        self.dead_letters.append(status.dead_letters.depth)
        recorded = status.recorded_per_second
        self.rate.append(recorded if status.workers else status.queue.net_per_second)

    def add_gap(self) -> None:
        """Append an unknown value to each series."""
        for series in (self.visible, self.in_flight, self.rate, self.dead_letters):
            series.append(None)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Latest status, and the error of the latest observation.

    Attributes:
        status: Latest status; None if there was none yet.
        error: Error of the latest observation; None if it succeeded.
        history: Figures until now.
    """

    status: Status | None
    error: AWSError | None
    history: History


class StatusFeed:
    """Observes queues and workers on request, and at most every two seconds for all viewers.

    Args:
        queues: Returns the source queue and the dead-letter queue.
        cloudwatch: Source of the age of the oldest messages.
        workers: Health endpoints of the workers, HOST:PORT.
        now: Returns the current time, timezone-aware.
        clock: Returns monotonic time in seconds.

    Attributes:
        counted: Returns the counts by reason of the console's own scan.
    """

    def __init__(
        self,
        queues: Callable[[], Awaitable[tuple[Queue, Queue]]],
        cloudwatch: CloudWatch,
        workers: Sequence[str],
        *,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._queues = queues
        self._cloudwatch = cloudwatch
        self._workers = workers
        self.counted: Callable[[], ReasonCounts] = ReasonCounts
        self._now = now
        self._clock = clock
        self._lock = asyncio.Lock()
        self._observer: Observer | None = None
        self._observed_at = float("-inf")
        self._snapshot = Snapshot(None, None, History())

    async def current(self) -> Snapshot:
        """Return the latest status, observed now if it is older than two seconds."""
        async with self._lock:
            since = self._clock() - self._observed_at
            if since >= INTERVAL_SECONDS:
                if since > _GAP_INTERVALS * INTERVAL_SECONDS and self._snapshot.status:
                    self._snapshot.history.add_gap()
                self._observed_at = self._clock()
                self._snapshot = await self._observe()
            return self._snapshot

    async def changes(self) -> AsyncIterator[Snapshot]:
        """Yield the status every two seconds."""
        while True:
            yield await self.current()
            await asyncio.sleep(INTERVAL_SECONDS)

    async def aclose(self) -> None:
        """End the background tasks of the observer."""
        if self._observer is not None:
            await self._observer.aclose()

    async def _observe(self) -> Snapshot:
        history = self._snapshot.history
        try:
            if self._observer is None:
                self._observer = Observer(
                    *await self._queues(),
                    self._cloudwatch,
                    workers=self._workers,
                    visibility_timeout_seconds=None,
                    now=self._now,
                    clock=self._clock,
                )
            status = await self._observer.observe(counted=self.counted())
        except AWSError as error:
            return Snapshot(self._snapshot.status, error, history)
        history.add(status)
        return Snapshot(status, None, history)
