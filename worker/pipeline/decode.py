"""Decoding: a message to the acceptance that it states."""

from __future__ import annotations

from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode as decode_body
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.errors import FutureError
from worker.pipeline.service_state import ServiceState


def decode(message: ReceivedMessage, state: ServiceState) -> Acceptance | Outcome:
    """Return the acceptance, or the outcome of a message whose time cannot be verified now.

    Raises:
        RefusedError: The message can never be recorded; FutureError only if SQS's clock and this
            host's agree on that.
    """
    sqs_clock, skew_seconds = state.sqs_clock, state.settings.clock_skew_seconds
    try:
        # A bound that costs nothing, and nearly always suffices.
        acceptance = decode_body(
            message.body, now=sqs_clock.passed, clock_skew_seconds=skew_seconds
        )
    except FutureError:
        uncertainty = sqs_clock.uncertainty
        clocks = [message.sent_at, sqs_clock.now()]
        if not uncertainty:
            clocks.append(state.now())
        try:
            acceptance = decode_body(message.body, now=max(clocks), clock_skew_seconds=skew_seconds)
        except FutureError as error:
            if not uncertainty:
                raise
            # The longest delay, so that a wrong clock does not use up the receives.
            state.metrics.events["clock_returns"] += 1
            delay = state.settings.backoff_cap_seconds
            return Outcome.returned(f"{error.detail}; {uncertainty}", delay)
    if acceptance.model_extra:
        state.metrics.events["unknown_fields"] += len(acceptance.model_extra)
    return acceptance
