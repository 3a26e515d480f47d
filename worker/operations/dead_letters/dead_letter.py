"""Dead letters as operators see them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from msgspec import structs

from worker.domain.dead_letter import DeadLetterInfo, Replays, read, replays
from worker.domain.envelope import decode, unwrap
from worker.domain.message import ReceivedMessage
from worker.errors import RefusedError

# No valid name is longer, and Python refuses to convert very long integers to text.
_NAME_MAX_CHARACTERS: Final = 256
_NUMBER_MAX_BITS: Final = 1024
UNEXPLAINED: Final = "unexplained"
# Operators are warned about dead letters that expire within this time.
EXPIRES_SOON_SECONDS: Final = 86_400


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter with everything that is known about it.

    Attributes:
        message: The message as received from the dead-letter queue.
        message_id: Its id in the dead-letter queue. `show` and `replay` accept this id or
            `original_message_id`.
        original_message_id: The message's id in the source queue; empty if unknown.
        reason: The worker's reason code, or the one found in the body if SQS moved the message.
        detail: One line of explanation.
        sent_at: When the original message was sent, as far as known.
        dead_at: When the message entered the dead-letter queue, as far as known.
        expires_at: When SQS deletes the message.
        receive_count: How often the original was received before it was dead-lettered.
        user_id: User in the body; None if the body does not name one.
        policy_id: Policy in the body; None if the body does not name one.
        version: Policy version in the body; None if the body does not name one.
        history: Number of replays, and the edits made at each.
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

    def without_content(self) -> DeadLetter:
        """Return a copy without body and attributes, to limit the memory that a scan needs."""
        return replace(self, message=structs.replace(self.message, body="", attributes={}))

    def summary(self, now: datetime) -> dict[str, Any]:
        """Return everything but the body and the attributes, for JSON."""
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
    """Create a `DeadLetter` from a message of the dead-letter queue.

    Args:
        message: Message as received from the dead-letter queue.
        retention_seconds: Retention period of the dead-letter queue.
        now: Current time, timezone-aware.
    """
    info = read(message) or _diagnose(message, now)
    user_id, policy_id, version = _names(message.body)
    return DeadLetter(
        message=message,
        message_id=message.message_id,
        original_message_id=info.message_id,
        reason=info.reason,
        detail=info.detail,
        sent_at=_parse_time(info.sent_at, message.sent_at),
        dead_at=message.sent_at,
        expires_at=message.sent_at + timedelta(seconds=retention_seconds),
        receive_count=info.receive_count,
        user_id=user_id,
        policy_id=policy_id,
        version=version,
        history=replays(message),
    )


def _diagnose(message: ReceivedMessage, now: datetime) -> DeadLetterInfo:
    """Return what the body of a message that SQS moved shows about it."""
    try:
        # A purge may filter by this reason, so a slow local clock must not produce it.
        passed = max(now, message.first_received_at, message.sent_at)
        decode(message.body, now=passed, clock_skew_seconds=0)
    except RefusedError as refused:
        return DeadLetterInfo(refused.reason.value, refused.detail)
    return DeadLetterInfo(
        UNEXPLAINED, "moved by SQS after the maximum number of receives; the message is valid"
    )


def _names(body: str) -> tuple[str | None, str | None, str | None]:
    """Return user, policy and version as far as the body can be read."""
    try:
        payload, _ = unwrap(body)
    except RefusedError:
        return None, None, None
    user_id, policy_id, version = map(payload.get, ("user_id", "policy_id", "version"))
    return _name(user_id), _name(policy_id), _name(version)


def _name(value: object) -> str | None:
    # A number in place of a name still identifies the user or the policy.
    if isinstance(value, str):
        return value[:_NAME_MAX_CHARACTERS]
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return str(value) if value.bit_length() <= _NUMBER_MAX_BITS else None


def _parse_time(text: str, default: datetime) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return default
    return time if time.tzinfo else default
