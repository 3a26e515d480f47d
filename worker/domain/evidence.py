"""The record of an acceptance, and the verification that it is unaltered.

Format 2, the value of `record_format`. A record is an item of the table of acceptances, keyed by
`user_id` and `policy_version`. Its attributes are strings, except those named below as binary. What
is absent in the message is absent in the record.

The acceptance, as the producer stated it: `event_id`, `user_id`, `policy_id`, `version`,
`accepted_at`, `content_sha256`, `locale`, `method`, `channel`, `ip`, `user_agent`, `session_id`,
`on_behalf_of`; all other fields as one JSON object in the string `extra`, each value written as in
the message. If the settings reduce a field, `ip_reduced` or `user_agent_reduced` is `truncated`
(the field is the network of the address, /24 of IPv4 or /48 of IPv6) or `omitted` (it is absent).
The record then has no `body_digest`, from which the whole value could be found by trying all.

The text: `policy_version` (`policy_id`, a `#`, `version`), binary `policy_sha256` (SHA-256 of the
published text that was accepted) and, if that is not the default text, `policy_locale` (its
language).

The origin: `received_at` (time when SQS first accepted the message), `message_id` (which SQS
assigned then), binary `body_digest` (of the body as the producer sent it), and after a replay from
the dead-letter queue `replayed_at`. If an operator edited the message, `edits` is a JSON array with
an object for each edit, oldest first: `at`, `by`, `changed` (names of fields) and `body_digest` (of
the body before this edit, in hexadecimal). Times that the worker adds are RFC 3339 in UTC with
milliseconds.

The digest of a body is the SHA-256 of the salts of the recorded erasable fields (see below), in the
order `ip`, `user_agent`, `session_id`, and the 32 bytes of the SHA-256 of the body. From a hash of
the body alone, an erased value could be found by trying all.

The record: `recorded_at`, `record_format`, binary `record_id` (8 random bytes), binary
`record_sha256`, and for each recorded erasable field F (`ip`, `user_agent`, `session_id`) the
binary `F_salt` (16 random bytes) and the binary `F_commitment` (32 bytes): the SHA-256 of F_salt,
the name F in ASCII, a zero byte and the value in UTF-8.

`record_sha256` is the SHA-256 of a JSON object in canonical form (RFC 8785), with every attribute
of the item except `record_sha256` itself and, for each erasable field F, F and `F_salt`. Every
value is a JSON string; a binary one is written in lower-case hexadecimal.

Erasing F means removing F and `F_salt`. `F_commitment` and the digests of bodies remain, so
`record_sha256` stays valid. A commitment is binding, because another value with the same commitment
would be a collision of SHA-256: the salt has a fixed length, so no two values are written alike. It
is hiding while the salt is unknown, and so are the digests: each salt is 128 random bits of its
own, so even a value from a short list, such as an IP address, cannot be found by trying all of
them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from worker.domain import canonical_json, evidence_format_1
from worker.domain.acceptance import Acceptance
from worker.domain.origin import EPOCH, Edit, Origin
from worker.domain.policy import PolicyText

ERASABLE: Final = ("ip", "user_agent", "session_id")
FORMAT: Final = "2"
BINARY: Final = frozenset(
    {"policy_sha256", "body_digest", "record_id", "record_sha256", *evidence_format_1.BINARY}
)
_NOT_HASHED: Final = frozenset({"record_sha256", *ERASABLE, *(f"{name}_salt" for name in ERASABLE)})
_SALT_BYTES: Final = 16
_ID_BYTES: Final = 8
# By erasable field: the names of its salt and its commitment.
_ADDED: Final = {name: (f"{name}_salt", f"{name}_commitment") for name in ERASABLE}
_LABELS: Final = {name: name.encode() + b"\0" for name in ERASABLE}
_STATED: Final = frozenset({*Acceptance.model_fields, "extra"})
_DAY_SECONDS: Final = 86_400
# By millisecond: formatting a number takes longer than all else in a timestamp.
_FRACTIONS: Final = tuple(f".{millisecond:03}Z" for millisecond in range(1000))
NO_REDUCTIONS: Final[Mapping[str, str]] = {}


def timestamp(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC with milliseconds."""
    since = moment - EPOCH
    second = _second(since.days * _DAY_SECONDS + since.seconds)
    return second + _FRACTIONS[since.microseconds // 1000]


def timestamp_of(milliseconds: int) -> str:
    """Return a time in milliseconds since 1970 as `timestamp` does."""
    return _second(milliseconds // 1000) + _FRACTIONS[milliseconds % 1000]


@lru_cache(maxsize=1024)  # many messages are sent and recorded in the same second
def _second(since_epoch: int) -> str:
    return (EPOCH + timedelta(seconds=since_epoch)).isoformat()[: len("2026-11-22T10:00:00")]


def build_item(
    acceptance: Acceptance,
    text: PolicyText,
    origin: Origin,
    *,
    recorded_at: datetime,
    reductions: Mapping[str, str] = NO_REDUCTIONS,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> dict[str, Any]:
    """Create the item of an acceptance.

    Args:
        acceptance: Acceptance, reduced by the settings.
        text: The published text that was accepted.
        origin: Origin of the message.
        recorded_at: Current time.
        reductions: Kind of reduction by field name.
        random_bytes: Source of the record id and the salts.
    """
    if reductions:
        origin = origin.without_hashes()
    fields = acceptance.stated()
    values: dict[str, str] = {name: fields.pop(name) for name in ERASABLE if name in fields}
    # A single call: its cost hardly depends on the number of bytes.
    entropy = random_bytes(_ID_BYTES + _SALT_BYTES * len(values))
    salts = entropy[_ID_BYTES:]
    fields["policy_version"] = acceptance.policy_version
    fields["recorded_at"] = timestamp(recorded_at)
    fields["record_format"] = FORMAT
    if text.locale:
        fields["policy_locale"] = text.locale
    for name, kind in reductions.items():
        fields[f"{name}_reduced"] = kind
    _add_origin(fields, origin, salts)
    item: dict[str, Any] = fields | values
    # The id distinguishes our write from an equal one of another worker after a lost response.
    item["record_id"] = record_id = entropy[:_ID_BYTES]
    fields["record_id"] = record_id.hex()
    item["policy_sha256"] = bytes.fromhex(text.sha256)
    fields["policy_sha256"] = text.sha256
    if origin.body_sha256:
        item["body_digest"] = body_digest = _body_digest(origin.body_sha256, salts)
        fields["body_digest"] = body_digest.hex()
    _add_commitments(item, fields, values, entropy)
    item["record_sha256"] = canonical_json.sha256(fields)
    return item


def _add_commitments(
    item: dict[str, Any], fields: dict[str, str], values: Mapping[str, str], entropy: bytes
) -> None:
    """Add a salt and a commitment for each erasable value; the salts follow the record id."""
    begin = _ID_BYTES
    for name, value in values.items():
        salt = entropy[begin : begin + _SALT_BYTES]
        begin += _SALT_BYTES
        salt_name, commitment_name = _ADDED[name]
        item[salt_name] = salt
        item[commitment_name] = commitment = _commitment(name, value, salt)
        fields[commitment_name] = commitment.hex()


def _add_origin(fields: dict[str, str], origin: Origin, salts: bytes) -> None:
    fields["received_at"] = timestamp_of(origin.received_ms)
    if origin.message_id:
        fields["message_id"] = origin.message_id
    if origin.replayed_at is not None:
        fields["replayed_at"] = timestamp(origin.replayed_at)
    if origin.edits:
        fields["edits"] = json.dumps(
            [_edit_fields(each, salts) for each in origin.edits],
            ensure_ascii=False,
            separators=(",", ":"),
        )


def _edit_fields(edit: Edit, salts: bytes) -> dict[str, Any]:
    fields: dict[str, Any] = {"at": edit.at, "by": edit.by, "changed": edit.changed}
    if edit.body_sha256:
        fields["body_digest"] = _body_digest(edit.body_sha256, salts).hex()
    return fields


def _body_digest(sha256: str, salts: bytes) -> bytes:
    return hashlib.sha256(salts + bytes.fromhex(sha256)).digest()


def _commitment(name: str, value: str, salt: bytes) -> bytes:
    return hashlib.sha256(salt + _LABELS[name] + value.encode()).digest()


# By format: the binary attributes, and the commitment of a field.
_FORMATS: Final = {
    evidence_format_1.FORMAT: (evidence_format_1.BINARY, evidence_format_1.commitment),
    FORMAT: (BINARY, _commitment),
}


def verify(item: Mapping[str, Any]) -> list[str]:
    """Verify that an item is unaltered, except for erased fields.

    Args:
        item: A record of any format.

    Returns:
        One line for each problem; empty if the item is valid.
    """
    if not has_hash(item):
        return ["no record_sha256: written by another program, or altered"]
    record_format = str(item.get("record_format"))
    if record_format not in _FORMATS:
        return [f"record_format is {record_format!r}; this release verifies 1 and {FORMAT}"]
    binary, commitment = _FORMATS[record_format]
    problems = _wrong_types(item, binary)
    if not problems and _hash(item) != _text(item["record_sha256"]):
        problems.append("record_sha256 does not match the record")
    return [*problems, *_uncommitted(item, commitment)]


def has_hash(item: Mapping[str, Any]) -> bool:
    """Return whether an item has the hash that this program writes in every record."""
    return "record_sha256" in item


def _wrong_types(item: Mapping[str, Any], binary: frozenset[str]) -> list[str]:
    # Another program may have written any type, and "7" is not 7.
    problems = []
    for name, value in sorted(item.items()):
        if name in binary and not is_binary(value):
            problems.append(f"{name} is not binary")
        elif name not in binary and not isinstance(value, str):
            problems.append(f"{name} is not a string")
    return problems


def _hash(item: Mapping[str, Any]) -> str | None:
    fields = {name: _text(value) for name, value in item.items() if name not in _NOT_HASHED}
    try:
        return canonical_json.sha256(fields).hex()
    except ValueError:  # a lone surrogate
        return None


def is_binary(value: object) -> bool:
    """Return whether an attribute is binary, in the form of any client library."""
    return isinstance(value, bytes) or hasattr(value, "__bytes__")


def _text(value: Any) -> str:
    return bytes(value).hex() if is_binary(value) else str(value)


def _uncommitted(
    item: Mapping[str, Any], commitment: Callable[[str, str, bytes], bytes]
) -> Iterator[str]:
    for name in ERASABLE:
        salt = item.get(f"{name}_salt")
        if salt is None:
            if name in item:
                yield f"{name} has no salt, so it cannot be verified"
        elif is_binary(salt) and len(bytes(salt)) != _SALT_BYTES:
            yield f"{name}_salt does not have {_SALT_BYTES} bytes: it may contain a part of {name}"
        elif name not in item:
            if f"{name}_commitment" not in item:
                yield f"{name}_salt has no commitment"
        elif not _matches(item, name, salt, commitment):
            yield f"{name} does not match its commitment"


def _matches(
    item: Mapping[str, Any], name: str, salt: Any, commitment: Callable[[str, str, bytes], bytes]
) -> bool:
    try:
        expected = commitment(name, item[name], bytes(salt))
        return expected == bytes(item.get(f"{name}_commitment", b""))
    except (AttributeError, TypeError, ValueError):  # another type
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
    # Format 1 holds numbers as doubles.
    number = Decimal if item.get("record_format") == FORMAT else float
    return _content(item, compared, number) == _content(acceptance.stated(), compared, number)


def _content(
    fields: Mapping[str, Any], compared: frozenset[str], number: Callable[[str], Any]
) -> dict[str, Any]:
    """Return the fields to compare; producers write and order unknown fields in different ways.

    `extra` may be absent, or written by another program.
    """
    content = {name: value for name, value in fields.items() if name in compared}
    with suppress(KeyError, TypeError, ValueError, ArithmeticError, RecursionError):
        content["extra"] = json.loads(content["extra"], parse_float=number, parse_int=number)
    return content
