"""Decoding: a message to the acceptance that it states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime

from worker.domain import admission
from worker.domain.acceptance import Acceptance
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.errors import FutureError
from worker.pipeline.sqs_clock import SQSClock
from worker.settings import Settings


class Decoder:
    """Decoder of messages, with a verdict on acceptances from the future.

    Args:
        settings: Tolerated clock skew and the longest delay of a returned message.
        sqs_clock: SQS time.
        now: Returns this host's time, aware.
        events: Counters of unknown fields and of returned messages.
    """

    def __init__(
        self,
        settings: Settings,
        sqs_clock: SQSClock,
        now: Callable[[], datetime],
        events: Counter[str],
    ) -> None:
        self._skew_seconds = settings.clock_skew_seconds
        self._return_seconds = settings.backoff_cap_seconds
        self._sqs_clock = sqs_clock
        self._now = now
        self._events = events

    def decode(self, message: ReceivedMessage) -> Acceptance | Outcome:
        """Return the acceptance, or the outcome of a message whose time cannot be verified now.

        Raises:
            RefusedError: The message can never be recorded; FutureError only if SQS's clock and
                this host's agree on that.
        """
        acceptance = self._read(message)
        if isinstance(acceptance, Acceptance) and acceptance.model_extra:
            self._events["unknown_fields"] += len(acceptance.model_extra)
        return acceptance

    def _read(self, message: ReceivedMessage) -> Acceptance | Outcome:
        passed = (self._sqs_clock.passed, message.sent_at)
        try:
            return admission.read(message.body, passed, clock_skew_seconds=self._skew_seconds)
        except FutureError:
            uncertainty = self._sqs_clock.uncertainty
        clocks = [message.sent_at, self._sqs_clock.now()]
        if not uncertainty:
            clocks.append(self._now())
        try:
            return admission.read(message.body, clocks, clock_skew_seconds=self._skew_seconds)
        except FutureError as error:
            if not uncertainty:
                raise
            # The longest delay, so that a wrong clock does not use up the receives.
            self._events["clock_returns"] += 1
            return Outcome.returned(f"{error.detail}; {uncertainty}", self._return_seconds)
