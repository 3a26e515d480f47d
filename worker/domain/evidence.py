r"""The record of an acceptance, and the verification that it is unaltered.

Format 1, the value of `record_format`. A record is an item of the table of acceptances, keyed by
`user_id` and `policy_version`. Its attributes are strings, except the binary ones below. Fields
that are absent in the message are absent in the record.

Fields of the message, unchanged: `event_id`, `user_id`, `policy_id`, `version`, `accepted_at` and,
if present, `content_sha256`, `locale`, `method`, `channel`, `ip`, `user_agent`, `session_id`,
`on_behalf_of`; all other fields as one JSON object in the string `extra`.

Added when recorded: `policy_version` (`policy_id`, a `#`, `version`), `received_at` (time when SQS
accepted the message) and `recorded_at` (RFC 3339 in UTC with milliseconds), `record_format`,
`record_id` (8 random bytes in hexadecimal), `record_sha256`, and for each recorded erasable field F
(`ip`, `user_agent`, `session_id`) the binary `F_salt` (16 random bytes) and the binary
`F_commitment` (32 bytes): HMAC-SHA-256 with `F_salt` as key over the name F in ASCII, a zero byte
and the value in UTF-8. If the settings reduce a field, `ip_reduced` or `user_agent_reduced` is
`truncated` (F is the network of the address, /24 of IPv4 or /48 of IPv6) or `omitted` (F is
absent).

`record_sha256` is the SHA-256, in lower-case hexadecimal, of a JSON object in UTF-8 with every
attribute of the item except `record_sha256` itself and, for each erasable field F, F and `F_salt`.
Its keys are sorted by code point; there is no white space between tokens; each value is a JSON
string, that of `F_commitment` in lower-case hexadecimal; the only escaped characters are the
quotation mark, the backslash and those below U+0020, by their short forms or else as \u00xx in
lower case.

Erasing F means removing F and `F_salt`. `F_commitment` remains, so `record_sha256` stays valid, and
without the salt the commitment cannot be used to test guessed values.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
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
NO_REDUCTIONS: Final[Mapping[str, str]] = {}


def timestamp(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds")[: -len("+00:00")] + "Z"


def _commitment(name: str, value: str, salt: bytes) -> bytes:
    return hmac.digest(salt, name.encode() + b"\0" + value.encode(), "sha256")


def build_item(
    acceptance: Acceptance,
    *,
    received_at: datetime,
    recorded_at: datetime,
    reductions: Mapping[str, str] = NO_REDUCTIONS,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> dict[str, Any]:
    """Create the item of an acceptance.

    Args:
        acceptance: Acceptance, reduced by the settings.
        received_at: Time when SQS accepted the message.
        recorded_at: Current time.
        reductions: Kind of reduction by field name.
        random_bytes: Source of the record id and the salts.
    """
    stated = acceptance.stated()
    erasable = [name for name in ERASABLE if name in stated]
    # A single call: its cost hardly depends on the number of bytes.
    entropy = random_bytes(_ID_BYTES + _SALT_BYTES * len(erasable))
    item: dict[str, Any] = {
        **stated,
        "policy_version": acceptance.policy_version,
        "received_at": timestamp(received_at),
        "recorded_at": timestamp(recorded_at),
        "record_format": FORMAT,
        # Distinguishes our write from an equal one of another worker after a lost response.
        "record_id": entropy[:_ID_BYTES].hex(),
    }
    for number, name in enumerate(erasable):
        begin = _ID_BYTES + _SALT_BYTES * number
        salt = entropy[begin : begin + _SALT_BYTES]
        item[f"{name}_salt"] = salt
        item[f"{name}_commitment"] = _commitment(name, stated[name], salt)
    for reduced, kind in reductions.items():
        item[f"{reduced}_reduced"] = kind
    item["record_sha256"] = record_sha256(item)
    return item


def record_sha256(item: Mapping[str, Any]) -> str:
    """Return the hash of an item as described in the module docstring."""
    hashed = {name: item[name] for name in sorted(item.keys() - _NOT_HASHED)}
    for name in _COMMITMENTS:
        if name in hashed:
            hashed[name] = bytes(hashed[name]).hex()
    return hashlib.sha256(to_json(hashed)).hexdigest()


def verify(item: Mapping[str, Any]) -> list[str]:
    """Verify that an item is unaltered, except for erased fields.

    Returns:
        One line for each problem; empty if the item is valid.
    """
    if not has_hash(item):
        return ["no record_sha256: written by another program, or altered"]
    problems = []
    if item.get("record_format") != FORMAT:
        problems.append(f"record_format is {item.get('record_format')!r}, not {FORMAT!r}")
    if not _is_hash_valid(item):
        problems.append("record_sha256 does not match the record")
    for name in ERASABLE:
        if name in item and f"{name}_salt" in item:
            if not _is_commitment_valid(item, name):
                problems.append(f"{name} does not match its commitment")
        elif name in item:
            problems.append(f"{name} has no salt, so it cannot be verified")
    return problems


def has_hash(item: Mapping[str, Any]) -> bool:
    """Return whether an item has the hash that this program writes in every record."""
    return "record_sha256" in item


# Another program may have written any type.
def _is_hash_valid(item: Mapping[str, Any]) -> bool:
    # `to_json` writes a Decimal, a number of DynamoDB, as a string.
    texts = item.keys() - _NOT_HASHED - set(_COMMITMENTS)
    if not all(isinstance(item[name], str) for name in texts):
        return False
    try:
        return record_sha256(item) == item.get("record_sha256")
    except (TypeError, ValueError):
        return False


def _is_commitment_valid(item: Mapping[str, Any], name: str) -> bool:
    try:
        expected = _commitment(name, item[name], bytes(item[f"{name}_salt"]))
        return expected == bytes(item.get(f"{name}_commitment", b""))
    except (AttributeError, TypeError, ValueError):
        return False


def erased(item: Mapping[str, Any]) -> list[str]:
    """Return the names of the erased fields of an item."""
    return [name for name in ERASABLE if f"{name}_commitment" in item and name not in item]


def same_content(
    item: Mapping[str, Any], acceptance: Acceptance, reductions: Mapping[str, str] = NO_REDUCTIONS
) -> bool:
    """Return whether an item has the content of an acceptance.

    Ignored are erased fields, fields that are reduced on either side (the original value is
    unknown, and the settings may have changed in between), and attributes that are not fields of an
    acceptance.

    Args:
        item: Item of the table of acceptances.
        acceptance: Acceptance, reduced by the settings.
        reductions: Kind of reduction by field name.
    """
    reduced = [name for name in ERASABLE if f"{name}_reduced" in item]
    ignored = {*erased(item), *reductions, *reduced}
    compared = _STATED - ignored
    return _content(item, compared) == _content(acceptance.stated(), compared)


def _content(fields: Mapping[str, Any], compared: frozenset[str]) -> dict[str, Any]:
    """Return the fields to compare; unknown fields are sorted, as producers send them in any order.

    `extra` may be absent, or written by another program.
    """
    content = {name: value for name, value in fields.items() if name in compared}
    with suppress(KeyError, TypeError, ValueError, RecursionError):
        content["extra"] = json.dumps(json.loads(content["extra"]), sort_keys=True)
    return content
