r"""The item that keeps an acceptance, and the proof that it was not altered.

Format 1, as `record_format` names it. A record is an item of the users' table, keyed by `user_id`
and `policy_version`. Each of its attributes is a string, but for the binary ones named below. An
attribute that nobody stated is absent.

Stated by the application, exactly as it came: `event_id`, `user_id`, `policy_id`, `version`,
`accepted_at` and, where they were stated, `content_sha256`, `locale`, `method`, `channel`, `ip`,
`user_agent`, `session_id`, `on_behalf_of`; all other fields as one JSON object in the text
`extra`.

Added at recording: `policy_version` (`policy_id`, a `#`, `version`), `received_at` (when SQS took
the message) and `recorded_at` (RFC 3339 in UTC with milliseconds), `record_format`, `record_id` (8
random bytes in hexadecimal), `record_sha256`, and for each erasable field F that is kept (`ip`,
`user_agent`, `session_id`) the binary `F_salt` (16 random bytes) and the binary `F_commitment` (32
bytes): HMAC-SHA-256 with `F_salt` as key over the name F in ASCII, a zero byte and the value in
UTF-8. Where the settings let less be kept than was stated, `ip_reduced` or `user_agent_reduced`
says so: `truncated` (F is the address's network, /24 of IPv4 or /48 of IPv6) or `omitted` (F is
absent).

`record_sha256` is the SHA-256, in lower-case hexadecimal, of a JSON object in UTF-8 that holds
every attribute of the item except `record_sha256` itself and, of each erasable field F, F and
`F_salt`. Its keys are sorted by code point; there is no white space between its parts; each value
is a JSON string, that of `F_commitment` in lower-case hexadecimal; of the characters only the
quotation mark, the backslash and those below U+0020 are escaped, by their short forms or else as
\u00xx in lower case.

To erase F is to remove F and `F_salt`. `F_commitment` stays, so `record_sha256` holds as before,
and without its salt it cannot be used to try out values.
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

from worker.domain.acceptance import Acceptance

ERASABLE: Final = ("ip", "user_agent", "session_id")
FORMAT: Final = "1"
_COMMITMENTS: Final = tuple(f"{name}_commitment" for name in ERASABLE)
_NOT_HASHED: Final = frozenset({"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)})
_SALT_BYTES: Final = 16
_ID_BYTES: Final = 8
_STATED: Final = frozenset({*Acceptance.model_fields, "extra"})
KEPT_AS_STATED: Final[Mapping[str, str]] = {}


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
    reductions: Mapping[str, str] = KEPT_AS_STATED,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> dict[str, Any]:
    """Build the item that is written once and never changed.

    Args:
        acceptance: what the application stated, less what is not to be kept.
        received_at: when SQS took the message.
        recorded_at: now.
        reductions: how each field is kept that is not kept as it was stated.
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
    if reductions:
        item |= {f"{name}_reduced": kept for name, kept in reductions.items()}
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
    if not has_hash(item):
        return ["no record_sha256: written by another program, or altered"]
    problems = []
    if item.get("record_format") != FORMAT:
        problems.append(f"record_format is {item.get('record_format')!r}, not {FORMAT!r}")
    if not _hash_holds(item):
        problems.append("record_sha256 does not match the record")
    for name in ERASABLE:
        if name in item and f"{name}_salt" in item:
            if not _commitment_holds(item, name):
                problems.append(f"{name} does not match its commitment")
        elif name in item:
            problems.append(f"{name} has no salt to prove it")
    return problems


def has_hash(item: Mapping[str, Any]) -> bool:
    """Return whether an item holds the hash that every record of this program has."""
    return "record_sha256" in item


# Whoever wrote or altered an item may have put any type there.
def _hash_holds(item: Mapping[str, Any]) -> bool:
    # As JSON the number 7 would be hashed like the text "7".
    texts = item.keys() - _NOT_HASHED - set(_COMMITMENTS)
    if not all(isinstance(item[name], str) for name in texts):
        return False
    try:
        return record_sha256(item) == item.get("record_sha256")
    except (TypeError, ValueError):
        return False


def _commitment_holds(item: Mapping[str, Any], name: str) -> bool:
    try:
        expected = _commitment(name, item[name], bytes(item[f"{name}_salt"]))
        return expected == bytes(item.get(f"{name}_commitment", b""))
    except (AttributeError, TypeError, ValueError):
        return False


def erased(item: Mapping[str, Any]) -> list[str]:
    """Name the fields that were erased from an item."""
    return [name for name in ERASABLE if f"{name}_commitment" in item and name not in item]


def same_content(
    item: Mapping[str, Any], acceptance: Acceptance, reductions: Mapping[str, str] = KEPT_AS_STATED
) -> bool:
    """Return whether an item states what the acceptance states.

    Fields that were erased are ignored, and those that either of both keeps less exactly than
    stated: what was stated cannot be told from them, and the settings may have changed in between.
    So are attributes that are no field of an acceptance, whoever wrote them.

    Args:
        item: as it is kept.
        acceptance: what is stated now, less what is not to be kept.
        reductions: how each of its fields is kept that is not kept as it was stated.
    """
    passed = {*erased(item), *reductions, *(name for name in ERASABLE if f"{name}_reduced" in item)}
    recorded = {
        name: value for name, value in item.items() if name in _STATED and name not in passed
    }
    stated = {name: value for name, value in acceptance.stated().items() if name not in passed}
    return _ordered(recorded) == _ordered(stated)


def _ordered(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Sort the unknown fields: a producer may state the same ones in another order."""
    try:
        extra = json.dumps(json.loads(fields["extra"]), sort_keys=True)
    except (KeyError, TypeError, ValueError, RecursionError):
        return dict(fields)  # absent, or not as this program writes it
    return {**fields, "extra": extra}
