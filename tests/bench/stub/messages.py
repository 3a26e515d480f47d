"""Acceptance messages from a template that is filled in with a number."""

from __future__ import annotations

import hashlib
import itertools
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

POLICY_ID: Final = "acceptable-use"
VERSION: Final = "2026-01"
CONTENT_SHA256: Final = hashlib.sha256(b"Be kind. Do not send spam.").hexdigest()
RECEIPT_PREFIX: Final = "AQEB"
DIGITS: Final = 12
_NUMBER: Final = "0" * DIGITS
# As long as those of SQS, because they are sent in every delete.
_RECEIPT_CHARACTERS: Final = 344
_USER_AGENT_MAX: Final = 1_000
_USER_AGENT: Final = "Mozilla/5.0"


# One group of fields that no acceptance has, repeated until a body is full.
_UNKNOWN: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "form": "signup/step-3",
        "campaign": 'Résumé of "terms"',
        "attempt": 3,
        "score": 0.875,
        "returning": False,
        "referrer": None,
        "scroll": [0, 25, 50, 100],
        "device": {"os": "Linux", "width": 1280, "touch": True},
    }
)


def body(message_bytes: int, number: int = 0, *, unknown_fields: bool = False) -> str:
    """Return the body of one message.

    Args:
        message_bytes: Length, at least about 360 for all fields.
        number: Makes event and user unique.
        unknown_fields: Whether fields of many types fill the body instead of a string.
    """
    fields = _acceptance(number)
    if unknown_fields:
        fields = {**_filling(message_bytes - len(_dumped(fields)) - 100), **fields}
    missing = message_bytes - len(_dumped(fields))
    padding = _USER_AGENT_MAX - len(_USER_AGENT)
    if missing > padding:
        fields = {"form": "", **fields}
        fields["form"] = "y" * (message_bytes - len(_dumped(fields)))
    elif missing > 0:
        fields["user_agent"] += "x" * missing
    return _dumped(fields)


def _filling(most_bytes: int) -> dict[str, Any]:
    """Return fields whose JSON is not longer than this."""
    fields: dict[str, Any] = {}
    for number in itertools.count():
        for name, value in _UNKNOWN.items():
            more = {**fields, f"{name}_{number}": value}
            if len(_dumped(more)) > most_bytes:
                return fields
            fields = more
    raise AssertionError


def _acceptance(number: int) -> dict[str, Any]:
    accepted_at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)
    return {
        "policy_id": POLICY_ID,
        "version": VERSION,
        "accepted_at": accepted_at.isoformat().replace("+00:00", "Z"),
        "content_sha256": CONTENT_SHA256,
        "method": "clickwrap",
        "channel": "web",
        "locale": "en-GB",
        "ip": "203.0.113.7",
        "user_agent": _USER_AGENT,
        # Last, so that messages differ only at the end of the body.
        "event_id": f"0192f0c1-7a2b-4c3d-8e4f-{number:0{DIGITS}}",
        "user_id": f"u-{number:0{DIGITS}}",
    }


def _dumped(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, separators=(",", ":"))


class Messages:
    """Renders the `Messages` of a ReceiveMessage response.

    Args:
        message_bytes: Length of each body.
        unknown_fields: Whether fields that no acceptance has fill it.
    """

    def __init__(self, message_bytes: int, *, unknown_fields: bool = False) -> None:
        text = body(message_bytes, unknown_fields=unknown_fields)
        self.message_bytes = len(text)
        start, between, end = text.split(_NUMBER)
        self._hash = hashlib.md5(start.encode(), usedforsecurity=False)
        self._between, self._end = between.encode(), end.encode()
        padding = "x" * (_RECEIPT_CHARACTERS - len(RECEIPT_PREFIX) - DIGITS)
        self._to_receipt = f'","ReceiptHandle":"{RECEIPT_PREFIX}'.encode()
        self._to_digest = f'{padding}","MD5OfBody":"'.encode()
        escaped = [json.dumps(part)[1:-1] for part in (start, between, end)]
        self._to_body = f'","Body":"{escaped[0]}'.encode()
        self._to_user = escaped[1].encode()
        self._to_attributes = f'{escaped[2]}","Attributes":{{"SentTimestamp":"'.encode()

    def render(self, first: int, count: int) -> bytes:
        """Return the body of a response with `count` messages numbered from `first`."""
        now = int(time.time() * 1000)
        attributes = b'%b%d","ApproximateReceiveCount":"1","ApproximateFirstReceiveTimestamp":' % (
            self._to_attributes,
            now - 5,
        )
        after = b'%b"%d"}}' % (attributes, now)
        parts = [b'{"Messages":[']
        opening = b'{"MessageId":"7d0cfb1e-33a5-4f0e-9b6b-'
        for value in range(first, first + count):
            number = b"%012d" % value
            parts += (
                opening,
                number,
                self._to_receipt,
                number,
                self._to_digest,
                self._digest(number),
                self._to_body,
                number,
                self._to_user,
                number,
                after,
            )
            opening = b',{"MessageId":"7d0cfb1e-33a5-4f0e-9b6b-'
        parts.append(b"]}")
        return b"".join(parts)

    def _digest(self, number: bytes) -> bytes:
        # The long prefix is the same in all messages and hashed only once.
        hashed = self._hash.copy()
        hashed.update(number + self._between + number + self._end)
        return hashed.hexdigest().encode()
