"""The rule of which acceptances may be recorded, for the pipeline and for dry runs.

A message is refused if

- its body is malformed or invalid (`envelope.decode`),
- `accepted_at` is later than every given clock, by more than the tolerated skew,
- its version of the policy is not published, once that has been waited for,
- or it states another content hash than the version was published with.

Versions that are retired or not effective yet are admitted: an acceptance is evidence of what the
user agreed to, whichever version was in force.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from math import ceil
from typing import Final

from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import Outcome
from worker.domain.policy import Policy
from worker.errors import Reason

# The absence of a version is cached, so a publication may go unnoticed for two receives.
_RECEIVES_MIN: Final = 3


def read(body: str, clocks: Iterable[datetime], *, clock_skew_seconds: float) -> Acceptance:
    """Decode a message that is not from the future.

    Args:
        body: Body of the message.
        clocks: Aware times; the latest of them decides.
        clock_skew_seconds: How much later than that `accepted_at` may be.

    Raises:
        FutureError: `accepted_at` is later than each of the clocks allows.
        RefusedError: The body is malformed or invalid.
    """
    return decode(body, now=max(clocks), clock_skew_seconds=clock_skew_seconds)


def refusal(acceptance: Acceptance, policy: Policy | None) -> Outcome | None:
    """Return the outcome of an acceptance that may not be recorded, None if it may.

    Args:
        acceptance: The decoded message.
        policy: The version that it names; None if it is not published.
    """
    if policy is None:
        return Outcome.dead_lettered(
            Reason.UNKNOWN_POLICY,
            f"policy {acceptance.policy_id} has no published version {acceptance.version}",
        )
    stated = acceptance.content_sha256
    if stated is not None and stated.lower() != policy.content_sha256:
        return Outcome.dead_lettered(
            Reason.CONTENT_MISMATCH,
            f"content_sha256 is {stated}, but {acceptance.policy_id} {acceptance.version} "
            f"was published with {policy.content_sha256}",
        )
    return None


def publication_delay(
    message: ReceivedMessage,
    *,
    now: datetime,
    limit_seconds: float,
    max_attempts: int,
    backoff_seconds: float,
) -> float | None:
    """Return the seconds until a message with an unpublished version is to be received again.

    Args:
        message: The message.
        now: SQS time, aware.
        limit_seconds: How long to wait for the publication in all.
        max_attempts: Receives after which to stop waiting.
        backoff_seconds: Delay of an ordinary retry.

    Returns:
        The delay, or None if the message has waited long enough.
    """
    waited = (now - max(message.first_received_at, message.sent_at)).total_seconds()
    if message.receive_count >= max_attempts:
        return None
    if waited >= limit_seconds and message.receive_count >= _RECEIVES_MIN:
        return None
    # No delay exceeds the remaining time, and short ones must not use up the receives before its
    # end: the last delay is the remaining time. Rounded up, since SQS counts whole seconds.
    receives_left = max_attempts - message.receive_count
    remaining = max(0.0, limit_seconds - waited)
    delay = min(max(backoff_seconds, remaining / 2 ** (receives_left - 1)), remaining)
    return float(ceil(delay)) if delay == remaining else delay
