"""State of the running service that its stages share, with its liveness and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from worker.aws.access import Probe
from worker.errors import GaveUpError
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.breaker import Breaker
from worker.pipeline.metrics import Metrics
from worker.pipeline.slots import Slots
from worker.pipeline.sqs_clock import SQSClock
from worker.pipeline.unsent import UnsentDeadLetters
from worker.settings import Settings


class ServiceState:
    """Settings, metrics, clocks, stop request and health of one running service.

    Args:
        settings: Settings of the service.
        metrics: Everything that is counted; the accounting is checked against the slots.
        slots: Slots of the messages in flight.
        probes: Calls that test access while it is denied.
        stopping: Set when the service is to drain.
        now: Returns this host's time, aware.

    Attributes:
        clock: Returns the monotonic seconds of the event loop.
        failure: The error that ended the service; None while there is none.
        polled_at: Time of the last completed poll in the clock's seconds; None before the first.
        breaker: Open while the table fails.
        access: Access to each operation of AWS.
        sqs_clock: SQS time.
        unsent: Dead letters that could not be sent.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        slots: Slots,
        *,
        probes: Iterable[Probe],
        stopping: asyncio.Event,
        now: Callable[[], datetime],
    ) -> None:
        self.settings = settings
        self.metrics = metrics
        self.slots = slots
        self.stopping = stopping
        self.now = now
        self.clock = asyncio.get_running_loop().time
        self.failure: GaveUpError | None = None
        self.polled_at: float | None = None
        self.breaker = Breaker()
        self.access = AccessWatch(settings.give_up_seconds, self.give_up, probes, self.clock)
        self.sqs_clock = SQSClock(now, self.clock, settings.clock_skew_seconds)
        self.unsent = UnsentDeadLetters(self.clock)
        self._progressed_at = self.clock()
        # The longest single step: a poll, or one attempt with its calls.
        self._step_seconds = settings.wait_seconds + 10 * settings.aws.call_timeout_seconds + 30.0

    def give_up(self, error: GaveUpError) -> None:
        """Drain, then end the service with this error; later errors are ignored."""
        if self.failure is None:
            self.failure = error
            self.stopping.set()

    def progressed(self, at: float | None = None) -> None:
        """Note that something was attempted or completed, now or at a time of the clock."""
        self._progressed_at = self.clock() if at is None else at

    def polled(self) -> None:
        """Note that a poll completed."""
        self.polled_at = self._progressed_at = self.clock()

    def why_not_live(self) -> list[str]:
        """Return the reasons to restart the process; empty if it is live."""
        reasons = []
        idle_seconds = self.clock() - self._progressed_at
        if idle_seconds > self._step_seconds:
            reasons.append(
                f"no poll completed and no message was attempted for {idle_seconds:.0f} s"
            )
        filled, accounting = self.slots.filled, self.metrics.accounting
        if filled != accounting.held or not accounting.is_balanced:
            reasons.append(
                f"message accounting does not balance: {filled} slots filled, "
                f"{accounting.held} messages held"
            )
        return reasons

    def why_not_ready(self) -> list[str]:
        """Return the reasons why the service cannot process messages; empty if it is ready."""
        reasons = self.why_not_live()
        if self.stopping.is_set():
            reasons.append("draining")
        if self.breaker.is_open:
            reasons.append("the table is failing; receiving is paused")
        problems = (self.access.problem, self.unsent.problem, self.sqs_clock.problem)
        reasons += filter(None, problems)
        if self.polled_at is None:
            reasons.append("no poll has completed yet")
        elif self.clock() - self.polled_at > self._step_seconds:
            reasons.append(f"no poll completed for {self.clock() - self.polled_at:.0f} s")
        return reasons
