"""The item that keeps an acceptance, and the proof that it was not altered.

Format 1. `record_sha256` is the SHA-256, in hexadecimal, of a JSON object in UTF-8 with sorted keys
and no white space, holding every attribute of the item except `record_sha256` itself and, for each
erasable field F that was stated (`ip`, `user_agent`, `session_id`), F and `F_salt`. In their place
stands `F_commitment`, in hexadecimal: HMAC-SHA-256 with the 16 random bytes of `F_salt` as key over
the name F, a zero byte and the value in UTF-8. Removing F and `F_salt` erases the value beyond
guessing and leaves `record_sha256` as valid as before.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pydantic_core import to_json

from worker.acceptance import Acceptance

ERASABLE: Final = ("ip", "user_agent", "session_id")
FORMAT: Final = "1"
_COMMITMENTS: Final = tuple(f"{name}_commitment" for name in ERASABLE)
_NOT_HASHED: Final = frozenset({"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)})
_SALT_BYTES: Final = 16
_ID_BYTES: Final = 8
_NOT_STATED_BY_PRODUCER: Final = frozenset(
    {"policy_version", "received_at", "recorded_at", "record_format", "record_id", "record_sha256"}
    | {f"{name}_{part}" for name in ERASABLE for part in ("salt", "commitment")}
)


def timestamp(moment: datetime) -> str:
    """Write a moment as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def _commitment(name: str, value: str, salt: bytes) -> bytes:
    return hmac.digest(salt, name.encode() + b"\0" + value.encode(), "sha256")


def build_item(
    acceptance: Acceptance,
    *,
    received_at: datetime,
    recorded_at: datetime,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> dict[str, Any]:
    """Build the item that is written once and never changed.

    Args:
        acceptance: what the application stated.
        received_at: when SQS took the message.
        recorded_at: now.
        random_bytes: source of the record's id and the salts.
    """
    stated = acceptance.stated()
    erasable = [name for name in ERASABLE if name in stated]
    # One call for all: it costs as much as eighty bytes do.
    drawn = random_bytes(_ID_BYTES + _SALT_BYTES * len(erasable))
    item: dict[str, Any] = {
        **stated,
        "policy_version": acceptance.policy_version,
        "received_at": timestamp(received_at),
        "recorded_at": timestamp(recorded_at),
        "record_format": FORMAT,
        # Tells our own write from an equal one of somebody else, when an answer was lost.
        "record_id": drawn[:_ID_BYTES].hex(),
    }
    for number, name in enumerate(erasable):
        begin = _ID_BYTES + _SALT_BYTES * number
        salt = drawn[begin : begin + _SALT_BYTES]
        item[f"{name}_salt"] = salt
        item[f"{name}_commitment"] = _commitment(name, stated[name], salt)
    item["record_sha256"] = record_sha256(item)
    return item


def record_sha256(item: Mapping[str, Any]) -> str:
    """Compute the hash of an item, as the module describes it."""
    proven = {name: item[name] for name in sorted(item.keys() - _NOT_HASHED)}
    for name in _COMMITMENTS:
        if name in proven:
            proven[name] = bytes(proven[name]).hex()
    return hashlib.sha256(to_json(proven)).hexdigest()


def verify(item: Mapping[str, Any]) -> list[str]:
    """Check that an item is as it was recorded, but for what was erased.

    Returns:
        One line for each thing that is wrong; none for sound evidence.
    """
    problems = []
    if item.get("record_format") != FORMAT:
        problems.append(f"record_format is {item.get('record_format')!r}, not {FORMAT!r}")
    if record_sha256(item) != item.get("record_sha256"):
        problems.append("record_sha256 does not match the record")
    for name in ERASABLE:
        if name in item and f"{name}_salt" in item:
            expected = _commitment(name, item[name], bytes(item[f"{name}_salt"]))
            if expected != bytes(item.get(f"{name}_commitment", b"")):
                problems.append(f"{name} does not match its commitment")
        elif name in item:
            problems.append(f"{name} has no salt to prove it")
    return problems


def same_content(item: Mapping[str, Any], acceptance: Acceptance) -> bool:
    """Say whether an item states what the acceptance states; erased fields are passed over."""
    erased = {name for name in ERASABLE if f"{name}_commitment" in item and name not in item}
    recorded = {name: value for name, value in item.items() if name not in _NOT_STATED_BY_PRODUCER}
    stated = {name: value for name, value in acceptance.stated().items() if name not in erased}
    return _ordered(recorded) == _ordered(stated)


def _ordered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the unknown fields: a producer may state the same ones in another order."""
    if "extra" not in fields:
        return dict(fields)
    return {**fields, "extra": json.dumps(json.loads(fields["extra"]), sort_keys=True)}
