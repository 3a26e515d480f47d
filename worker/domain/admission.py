"""The rule of which acceptances may be recorded, for the pipeline and for dry runs.

A message is refused if

- its body is malformed or invalid (`envelope.decode`),
- `accepted_at` is later than every given clock, by more than the tolerated skew,
- its version of the policy is not published, once that has been waited for,
- or it states a content hash that none of the texts of the version has.

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
from worker.domain.policy import Policy, PolicyText, language_tag
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


def admit(acceptance: Acceptance, policy: Policy | None) -> PolicyText | Outcome:
    """Return the text that was accepted, or the outcome of an acceptance that may not be recorded.

    An acceptance that states a hash is bound to the text with that hash; otherwise to the text in
    the language that it states, or else to the default text.

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
    # Most versions have one text.
    texts = policy.texts_for(acceptance.locale) if policy.texts else (policy.default_text,)
    for text in texts:
        if stated is None or stated.lower() == text.sha256:
            return text
    others = f" and {len(policy.texts)} texts in other languages" if policy.texts else ""
    return Outcome.dead_lettered(
        Reason.CONTENT_MISMATCH,
        f"content_sha256 is {stated}, but {acceptance.policy_id} {acceptance.version} "
        f"was published with {policy.content_sha256}{others}",
    )


def is_final(acceptance: Acceptance, admitted: PolicyText | Outcome) -> bool:
    """Return whether the result stays the same if texts are added to the version.

    Args:
        acceptance: The decoded message.
        admitted: Result of `admit` with a published version.
    """
    if isinstance(admitted, Outcome):
        return False
    if acceptance.content_sha256 is not None or not acceptance.locale:
        return True
    return language_tag(acceptance.locale) == language_tag(admitted.locale)


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
