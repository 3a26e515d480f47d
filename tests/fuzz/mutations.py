"""Mutations of a message: its fields, its envelope, its text or its bytes."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.fuzz.messages import enveloped, valid_fields
from tests.fuzz.unusual_values import CHARACTERS, KEYS, STRINGS, TIMES, TOKENS, unusual_value
from tests.unit.fakes import IP, SESSION_ID, USER_AGENT

Body = str | bytes

PRIVATE: Final = (IP, USER_AGENT, SESSION_ID)
_PLACEHOLDER: Final = "@token@"
_PUBLIC_FIELDS: Final = (
    "event_id", "user_id", "policy_id", "version", "accepted_at", "content_sha256", "locale",
    "method", "channel", "on_behalf_of",
)  # fmt: skip


def structured(rng: Random, number: int) -> Body:
    """Draw a message with up to three mutated fields, mutated envelope and mutated text."""
    fields = valid_fields(rng, number)
    for _ in range(rng.choice((0, 1, 1, 1, 2, 3))):
        rng.choice(_FIELD_MUTATIONS)(rng, fields)
    data = enveloped(rng, fields, rng.choice((0, 0, 0, 1, 1, 2, 3, 4, 5, 6)))
    if data is not fields and rng.random() < 0.3:
        rng.choice(_FIELD_MUTATIONS)(rng, data)
    text = json.dumps(data, ensure_ascii=rng.random() < 0.7)
    if _PLACEHOLDER in text:
        text = text.replace(f'"{_PLACEHOLDER}"', rng.choice(TOKENS))
    if rng.random() < 0.25:
        return rng.choice(_TEXT_MUTATIONS)(rng, text)
    return text


def _delete(rng: Random, fields: dict[str, Any]) -> None:
    if fields:
        del fields[rng.choice(sorted(fields))]


def _swap_type(rng: Random, fields: dict[str, Any]) -> None:
    fields[rng.choice(sorted(fields) or ["ip"])] = unusual_value(rng)


def _unusual_text(rng: Random, fields: dict[str, Any]) -> None:
    fields[rng.choice(_PUBLIC_FIELDS)] = rng.choice(STRINGS)


def _unusual_time(rng: Random, fields: dict[str, Any]) -> None:
    fields["accepted_at"] = rng.choice(TIMES)


def _add(rng: Random, fields: dict[str, Any]) -> None:
    fields[rng.choice(KEYS)] = unusual_value(rng)


def _rename(rng: Random, fields: dict[str, Any]) -> None:
    if fields:
        name = rng.choice(sorted(fields))
        fields[rng.choice((name.upper(), name + " ", name[:-1], *KEYS[:4]))] = fields.pop(name)


def _exchange(rng: Random, fields: dict[str, Any]) -> None:
    # Private values stay in their fields: elsewhere they are not recognized as private.
    one, other = rng.sample(_PUBLIC_FIELDS, 2)
    if one in fields and other in fields:
        fields[one], fields[other] = fields[other], fields[one]


def _token(rng: Random, fields: dict[str, Any]) -> None:
    fields[rng.choice((*_PUBLIC_FIELDS, "ip", "session_id", "x", "y"))] = _PLACEHOLDER


def _wrap(rng: Random, fields: dict[str, Any]) -> None:
    name = rng.choice(sorted(fields) or ["ip"])
    fields[name] = rng.choice(([fields.get(name)], {name: fields.get(name)}))


def _truncated(rng: Random, text: str) -> Body:
    return text[: rng.randrange(1, len(text))] if len(text) > 1 else text


def _with_character(rng: Random, text: str) -> Body:
    for _ in range(rng.randrange(1, 4)):
        position = rng.randrange(len(text) + 1)
        text = text[:position] + rng.choice(CHARACTERS) + text[position:]
    return text


def _with_flips(rng: Random, text: str) -> Body:
    content = bytearray(text.encode("utf-8", "surrogatepass"))
    for _ in range(rng.randrange(1, 4)):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _with_duplicate(rng: Random, text: str) -> Body:
    pair = f"{json.dumps(rng.choice(_PUBLIC_FIELDS))}: {json.dumps(unusual_value(rng))}"
    if rng.random() < 0.5:
        return text.replace("{", "{" + pair + ", ", 1)
    return text[:-1] + ", " + pair + "}"


def _reencoded(rng: Random, text: str) -> Body:
    encoding = rng.choice(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "utf-7"))
    return text.encode(encoding, "replace")


def _surrounded(rng: Random, text: str) -> Body:
    around = ("\ufeff", " ", "\n\t", "\x00", "\u00a0", "\x0c", "[", "]", "{", "}", "x", "//", text)
    return rng.choice(("", rng.choice(around))) + text + rng.choice(("", rng.choice(around)))


_FIELD_MUTATIONS: Final[tuple[Callable[[Random, dict[str, Any]], None], ...]] = (
    _delete, _swap_type, _swap_type, _unusual_text, _unusual_text, _unusual_time, _add, _rename,
    _exchange, _token, _wrap,
)  # fmt: skip
_TEXT_MUTATIONS: Final[tuple[Callable[[Random, str], Body], ...]] = (
    _truncated, _with_character, _with_flips, _with_duplicate, _reencoded, _surrounded,
)  # fmt: skip
