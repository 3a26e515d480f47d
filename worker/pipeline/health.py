"""Liveness and readiness of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from worker.pipeline.breaker import Breaker
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slots


class ReadinessSource(Protocol):
    """Source of reasons not to be ready."""

    @property
    def problem(self) -> str:
        """The reason in one line; empty if there is none."""


class Health:
    """Liveness and readiness, derived from recent progress.

    Args:
        accounting: Message accounting.
        slots: Slots, of which as many must be filled as messages are accounted for.
        breaker: Open while the table fails.
        readiness: Further sources of reasons not to be ready, such as denied access.
        stopping: Set while the service drains.
        progress_seconds: Longest time without progress, or without a completed poll.
        clock: Returns monotonic seconds.

    Attributes:
        polled_at: Time of the last completed poll in the clock's seconds; None before the first.
    """

    def __init__(
        self,
        accounting: Accounting,
        slots: Slots,
        breaker: Breaker,
        readiness: Sequence[ReadinessSource],
        stopping: asyncio.Event,
        *,
        progress_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._accounting = accounting
        self._slots = slots
        self._breaker = breaker
        self._readiness = readiness
        self._stopping = stopping
        self._progress_seconds = progress_seconds
        self._clock = clock
        self._progressed_at = clock()
        self.polled_at: float | None = None

    def progressed(self) -> None:
        """Note that something was attempted or completed."""
        self._progressed_at = self._clock()

    def polled(self) -> None:
        """Note that a poll completed."""
        self.polled_at = self._progressed_at = self._clock()

    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the process; empty if it is live."""
        reasons = []
        idle_seconds = self._clock() - self._progressed_at
        if idle_seconds > self._progress_seconds:
            reasons.append(
                f"no poll completed and no message was attempted for {idle_seconds:.0f} s"
            )
        filled, held = self._slots.filled, self._accounting.held
        if filled != held or not self._accounting.is_balanced:
            reasons.append(
                f"message accounting does not balance: {filled} slots filled, {held} messages held"
            )
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return the reasons why the service cannot process messages; empty if it is ready."""
        reasons = self.why_not_live()
        if self._stopping.is_set():
            reasons.append("draining")
        if self._breaker.is_open:
            reasons.append("the table is failing; receiving is paused")
        reasons += [each.problem for each in self._readiness if each.problem]
        if self.polled_at is None:
            reasons.append("no poll has completed yet")
        elif self._clock() - self.polled_at > self._progress_seconds:
            reasons.append(f"no poll completed for {self._clock() - self.polled_at:.0f} s")
        return reasons
