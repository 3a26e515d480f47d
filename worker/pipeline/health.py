"""Whether the service gets on with its work, and whether it may be given more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from worker.pipeline.breaker import Breaker
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slots


class Troubled(Protocol):
    """A source of reasons not to be ready."""

    @property
    def trouble(self) -> str:
        """The reason; empty if there is none."""


class Health:
    """Judge by what was done lately, never by the process being there.

    Args:
        books: the deliveries.
        slots: which must hold as many messages as the books.
        breaker: open while the table fails.
        troubled: each states its trouble: a service that denies access, clocks that differ, or dead
            letters that cannot be sent.
        stopping: set while the service drains.
        progress_seconds: how long nothing may happen, or no poll end.
        clock: gives seconds that only grow.
    """

    def __init__(
        self,
        accounting: Accounting,
        slots: Slots,
        breaker: Breaker,
        troubled: Sequence[Troubled],
        stopping: asyncio.Event,
        *,
        progress_seconds: float,
        clock: Callable[[], float],
    ) -> None:
        self._books = accounting
        self._slots = slots
        self._breaker = breaker
        self._troubled = troubled
        self._stopping = stopping
        self._progress_seconds = progress_seconds
        self._clock = clock
        self._progressed_at = clock()
        self.polled_at: float | None = None

    def progressed(self) -> None:
        """Take in that something was tried or done."""
        self._progressed_at = self._clock()

    def polled(self) -> None:
        """Take in that a poll was answered."""
        self.polled_at = self._progressed_at = self._clock()

    def why_not_live(self) -> list[str]:
        """Say why the process had better be started anew; nothing, if all is well."""
        reasons = []
        stood = self._clock() - self._progressed_at
        if stood > self._progress_seconds:
            reasons.append(f"no poll ended and no message was tried for {stood:.0f} s")
        if self._slots.filled != self._books.held or not self._books.balance:
            reasons.append(
                f"{self._slots.filled} slots hold messages, and the books {self._books.held}"
            )
        return reasons

    def why_not_ready(self) -> list[str]:
        """Say what keeps the service from taking in messages; nothing, if all is well."""
        reasons = self.why_not_live()
        if self._stopping.is_set():
            reasons.append("draining")
        if self._breaker.is_open:
            reasons.append("the table fails; receiving has stopped")
        reasons += [each.trouble for each in self._troubled if each.trouble]
        if self.polled_at is None:
            reasons.append("no poll was answered yet")
        elif self._clock() - self.polled_at > self._progress_seconds:
            reasons.append(f"no poll was answered for {self._clock() - self.polled_at:.0f} s")
        return reasons
