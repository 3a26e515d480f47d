"""State of the running service that its stages share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence

from worker.aws.access import Probe
from worker.errors import GaveUpError
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.breaker import Breaker
from worker.pipeline.health import Health, ReadinessSource
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slots
from worker.settings import Settings


class ServiceState:
    """Breaker, access watch, health and the stop request of one running service.

    Args:
        settings: Time limits of the service.
        accounting: Message accounting, checked against the slots.
        slots: Slots of the messages in flight.
        probes: Calls that test access while it is denied.
        readiness: Further sources of reasons not to be ready.
        stopping: Set when the service is to drain.
        clock: Returns monotonic seconds.

    Attributes:
        failure: The error that ended the service; None while there is none.
    """

    def __init__(
        self,
        settings: Settings,
        accounting: Accounting,
        slots: Slots,
        *,
        probes: Iterable[Probe],
        readiness: Sequence[ReadinessSource],
        stopping: asyncio.Event,
        clock: Callable[[], float],
    ) -> None:
        self.stopping = stopping
        self.failure: GaveUpError | None = None
        self.breaker = Breaker()
        self.access = AccessWatch(settings.give_up_seconds, self.give_up, probes, clock)
        self.health = Health(
            accounting,
            slots,
            self.breaker,
            (self.access, *readiness),
            stopping,
            progress_seconds=_progress_seconds(settings),
            clock=clock,
        )

    def give_up(self, error: GaveUpError) -> None:
        """Drain, then end the service with this error; later errors are ignored."""
        if self.failure is None:
            self.failure = error
            self.stopping.set()


def _progress_seconds(settings: Settings) -> float:
    """Return how long the longest single step may take: a poll, or one attempt with its calls."""
    return settings.wait_seconds + 10 * settings.aws.call_timeout_seconds + 30.0
