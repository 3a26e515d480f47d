"""Origin of a message: when SQS first accepted it, and what happened to it before this receive."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Edit:
    """Edit of a message by an operator before a replay.

    Attributes:
        at: Time of the edit, in ISO 8601.
        by: Name of the operator.
        changed: Names of changed fields, never their values.
        body_sha256: SHA-256 of the body before the edit, in lower-case hexadecimal; empty if an
            earlier release made the edit.
    """

    at: str
    by: str
    changed: tuple[str, ...]
    body_sha256: str = ""


class Origin(msgspec.Struct, frozen=True):
    """Origin of a message, through dead letters and replays.

    It is as reliable as the permission to send to the queue, because a sender may set the attribute
    that holds it.

    Attributes:
        received_ms: Time when SQS first accepted the message, in milliseconds since 1970.
        message_id: Message id that SQS assigned to it then; empty if unknown.
        body_sha256: SHA-256 of the body as the producer sent it, in lower-case hexadecimal; empty
            if unknown.
        replayed_at: Time of the last replay, aware; None if it was not replayed.
        edits: Edits, oldest first.
    """

    received_ms: int
    message_id: str = ""
    body_sha256: str = ""
    replayed_at: datetime | None = None
    edits: tuple[Edit, ...] = ()

    @classmethod
    def at(
        cls,
        received_at: datetime,
        message_id: str = "",
        body_sha256: str = "",
        replayed_at: datetime | None = None,
        edits: tuple[Edit, ...] = (),
    ) -> Origin:
        """Return the origin of a message that SQS first accepted at a time, aware."""
        received_ms = (received_at - EPOCH) // _MILLISECOND
        return cls(received_ms, message_id, body_sha256, replayed_at, edits)

    @property
    def received_at(self) -> datetime:
        """Time when SQS first accepted the message, in UTC."""
        return EPOCH + self.received_ms * _MILLISECOND

    def without_hashes(self) -> Origin:
        """Return the origin without hashes of bodies, which allow testing guesses of a value."""
        edits = tuple(replace(each, body_sha256="") for each in self.edits)
        return msgspec.structs.replace(self, body_sha256="", edits=edits)
