"""Status of the service in several processes: the sum of their snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import reduce
from operator import add

from worker.observability.service_status import ProcessFigures, ServiceStatus
from worker.pipeline.metrics import Metrics
from worker.processes.snapshot import SlotCounts, Snapshot
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.settings import Settings


@dataclass(slots=True)
class _Member:
    """One process, and those that ran before in its place.

    Attributes:
        process_id: None while no process runs.
        starts: How often a process was started.
        has_started: Whether the start of any of them has succeeded.
        snapshot: The last one of the running process; None before the first.
        received_at: When the snapshot was received, or the process was started.
    """

    process_id: int | None = None
    starts: int = 0
    has_started: bool = False
    snapshot: Snapshot | None = None
    received_at: float = 0.0


class ProcessesStatus(ServiceStatus):
    """Status of several processes together.

    Counters include those of processes that have ended, so that they never decrease. Messages that
    a process held when it ended are counted as abandoned. What it received or settled in the second
    after its last snapshot is not counted.

    Args:
        settings: settings of the service.
        stopping: set while the service drains.
        watchdog: event-loop watchdog of the parent.
        count: number of processes.
        clock: returns monotonic seconds.

    Attributes:
        own: counters of the parent itself.
    """

    def __init__(
        self,
        settings: Settings,
        stopping: asyncio.Event,
        watchdog: EventLoopWatchdog,
        count: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(settings, stopping)
        self.own = Metrics()
        self._watchdog = watchdog
        self._clock = clock
        self._members = {number: _Member() for number in range(1, count + 1)}
        self._ended = Metrics()
        self._sum()
        self.write_concurrency = lambda: sum(each.write_concurrency for each in self._snapshots())

    def started(self, number: int, process_id: int) -> None:
        """Note that a process was started."""
        member = self._members[number]
        member.process_id = process_id
        member.starts += 1
        member.received_at = self._clock()

    def update(self, number: int, snapshot: Snapshot) -> None:
        """Replace the snapshot of a process."""
        member = self._members[number]
        member.snapshot, member.received_at = snapshot, self._clock()
        member.has_started |= snapshot.is_started
        self._sum()

    def ended(self, number: int, *, abandons: bool) -> int:
        """Add the counts of a process that has ended to those of all that have.

        Args:
            number: number of the process.
            abandons: whether the messages that it held count as abandoned instead of held.

        Returns:
            How many messages it held.
        """
        member = self._members[number]
        metrics = Metrics() if member.snapshot is None else member.snapshot.metrics
        held = metrics.accounting.held
        if abandons:
            metrics.accounting.abandon()
        self._ended.add(metrics)
        member.process_id = member.snapshot = None
        self._sum()
        return held

    def has_begun(self, number: int) -> bool:
        """Return whether a process has sent a snapshot."""
        return self._members[number].snapshot is not None

    def is_ready(self, number: int) -> bool:
        """Return whether a process receives messages."""
        snapshot = self._members[number].snapshot
        return snapshot is not None and not snapshot.not_ready

    @property
    def processes(self) -> list[ProcessFigures]:
        """Figures of each process."""
        return [
            ProcessFigures(
                number=number,
                process_id=each.process_id,
                starts=each.starts,
                is_ready=self.is_ready(number),
                held=0 if each.snapshot is None else each.snapshot.metrics.accounting.held,
                loop_lag_seconds=0.0 if each.snapshot is None else each.snapshot.loop_lag_seconds,
            )
            for number, each in self._members.items()
        ]

    @property
    def loop_lag_seconds(self) -> float:
        """Longest recent delay of any event loop."""
        lags = [each.loop_lag_seconds for each in self._snapshots()]
        return max([self._watchdog.lag_seconds, *lags])

    @property
    def poll_age_seconds(self) -> float | None:
        """Seconds since the last response to a poll of the process where it is longest ago."""
        now = self._clock()
        ages = [
            each.snapshot.poll_age_seconds + now - each.received_at
            for each in self._members.values()
            if each.snapshot is not None and each.snapshot.poll_age_seconds is not None
        ]
        return max(ages, default=None)

    def why_not_started(self) -> list[str]:
        """Return the reasons why not all processes have started; empty once all have, for good."""
        return self._joined(
            [] if each.has_started else self._not_ready(each) for each in self._members.values()
        )

    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the service; empty if every process is live."""
        limit_seconds, reasons = self.settings.stall_seconds / 2, []
        if self._watchdog.lag_seconds > limit_seconds:
            reasons.append(f"event loop blocked for {self._watchdog.lag_seconds:.1f} s")
        return reasons + self._joined(self._not_live(each) for each in self._members.values())

    def _not_live(self, member: _Member) -> list[str]:
        # A process that does not respond is killed and restarted.
        silent_seconds = self._clock() - member.received_at
        if member.process_id is not None and silent_seconds > self.settings.stall_seconds / 2:
            return [f"no status for {silent_seconds:.0f} s"]
        return [] if member.snapshot is None else member.snapshot.not_live

    def why_not_ready(self) -> list[str]:
        """Return the reasons why not all processes receive messages; empty if all do."""
        if self.stopping.is_set():
            return [*self.why_not_live(), "draining"]
        return self._joined(self._not_ready(each) for each in self._members.values())

    def _not_ready(self, member: _Member) -> list[str]:
        if member.snapshot is not None:
            return self._not_live(member) or member.snapshot.not_ready
        return ["starting" if member.starts <= 1 else "restarting"]

    def _joined(self, reasons_of_all: Iterable[list[str]]) -> list[str]:
        """Return the reasons of all processes: once if they are the same, else with numbers."""
        by_number = dict(zip(self._members, reasons_of_all, strict=True))
        first, *others = by_number.values()
        if all(each == first for each in others):
            return list(first)
        return [
            f"process {number}: {reason}"
            for number, reasons in by_number.items()
            for reason in reasons
        ]

    def _snapshots(self) -> Iterator[Snapshot]:
        return (each.snapshot for each in self._members.values() if each.snapshot is not None)

    def _sum(self) -> None:
        metrics = Metrics()
        for each in (self.own, self._ended, *(each.metrics for each in self._snapshots())):
            metrics.add(each)
        self.metrics = metrics
        self.slots = reduce(add, (each.slots for each in self._snapshots()), SlotCounts())
