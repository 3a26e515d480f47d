"""A dead letter as it is shown to an operator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from worker.domain.dead_letter import Replays, read, replays
from worker.domain.envelope import decode, unwrap
from worker.domain.message import ReceivedMessage
from worker.errors import RefusedError

# No good name is longer; Python refuses to write out absurdly long numbers.
_NAME_MAX_CHARACTERS: Final = 256
_NUMBER_MAX_BITS: Final = 1024
UNEXPLAINED: Final = "unexplained"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter as a person wants to see it.

    Attributes:
        message_id: what the dead-letter queue calls it; `show` and `replay` take it, or the
            original's id.
        original_message_id: what the source queue called the message; empty if nobody said.
        reason: the worker's reason, or what its body tells where SQS itself moved it.
        sent_at: when the original was sent, as far as known.
        dead_at: when it came into the dead-letter queue, as far as known.
        expires_at: when SQS deletes it for good.
        receive_count: how often the original was received before it was dead-lettered.
        user_id: of the acceptance, as the body has it; None where it cannot tell.
        policy_id: the same.
        version: the same.
        history: how often it was replayed, and what was edited then.
    """

    message: ReceivedMessage
    message_id: str
    original_message_id: str
    reason: str
    detail: str
    sent_at: datetime
    dead_at: datetime
    expires_at: datetime
    receive_count: int
    user_id: str | None = None
    policy_id: str | None = None
    version: str | None = None
    history: Replays = field(default_factory=Replays)

    def bare(self) -> DeadLetter:
        """Give it without body and attributes: a large queue must not fill the memory."""
        return replace(self, message=replace(self.message, body="", attributes={}))

    def summary(self, now: datetime) -> dict[str, Any]:
        """Give everything but the body, for a report."""
        return {
            "id": self.message_id,
            "original_id": self.original_message_id,
            "reason": self.reason,
            "detail": self.detail,
            "sent_at": self.sent_at.isoformat(timespec="seconds"),
            "age_seconds": round((now - self.sent_at).total_seconds()),
            "expires_at": self.expires_at.isoformat(timespec="seconds"),
            "expires_in_seconds": round((self.expires_at - now).total_seconds()),
            "receive_count": self.receive_count,
            "user_id": self.user_id,
            "policy_id": self.policy_id,
            "version": self.version,
            "replays": self.history.count,
        }


def describe(message: ReceivedMessage, *, retention_seconds: int, now: datetime) -> DeadLetter:
    """Tell what a message of the dead-letter queue is.

    Args:
        message: as the dead-letter queue handed it out.
        retention_seconds: of the dead-letter queue.
        now: the present time, aware.
    """
    death = read(message)
    if death is None:
        reason, detail = _diagnose(message, now)
    else:
        reason, detail = death.reason, death.detail
    sent_at = message.sent_at
    if death is not None and death.sent_at:
        sent_at = _moment(death.sent_at, sent_at)
    user_id, policy_id, version = _names(message.body)
    return DeadLetter(
        message=message,
        message_id=message.message_id,
        original_message_id=death.message_id if death else "",
        reason=reason,
        detail=detail,
        sent_at=sent_at,
        dead_at=message.sent_at,
        expires_at=message.sent_at + timedelta(seconds=retention_seconds),
        receive_count=death.receive_count if death else 0,
        user_id=user_id,
        policy_id=policy_id,
        version=version,
        history=replays(message),
    )


def _diagnose(message: ReceivedMessage, now: datetime) -> tuple[str, str]:
    """Find the reason in the body, where no worker wrote it down."""
    try:
        # A purge may go by this reason, so a slow clock of this host must not find it.
        passed = max(now, message.first_received_at, message.sent_at)
        decode(message.body, now=passed, clock_skew_seconds=0)
    except RefusedError as refused:
        return refused.reason.value, refused.detail
    return UNEXPLAINED, "moved by SQS itself after its last receive; the message reads well"


def _names(body: str) -> tuple[str | None, str | None, str | None]:
    """Find user, policy and version, where the body is good enough to tell."""
    try:
        payload, _ = unwrap(body)
    except RefusedError:
        return None, None, None
    user_id, policy_id, version = map(payload.get, ("user_id", "policy_id", "version"))
    return _name(user_id), _name(policy_id), _name(version)


def _name(value: object) -> str | None:
    # A number in the place of a name still tells whose message it is.
    if isinstance(value, str):
        return value[:_NAME_MAX_CHARACTERS]
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return str(value) if value.bit_length() <= _NUMBER_MAX_BITS else None


def _moment(text: str, otherwise: datetime) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return otherwise
    return moment if moment.tzinfo else otherwise
