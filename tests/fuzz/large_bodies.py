"""Bodies of up to 1 MiB that are expensive to parse."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Final

from tests.fuzz.messages import enveloped, valid_fields
from worker.domain.message import MESSAGE_MAX_BYTES

_SHARE: Final = (0.05, 0.3, 0.34, 0.9, 1.0)


def large_body(rng: Random, number: int) -> str:
    """Draw a large body; some have exactly the maximum size."""
    size = int(MESSAGE_MAX_BYTES * rng.choice(_SHARE)) - 700
    start = json.dumps(valid_fields(rng, number))[:-1]
    body = rng.choice(_KINDS)(start, size)
    if rng.random() < 0.2 and len(body) < MESSAGE_MAX_BYTES // 2:
        body = json.dumps(enveloped(rng, body, 1))
    if rng.random() < 0.3 and body.isascii():
        body += " " * (MESSAGE_MAX_BYTES - len(body))
    return body


def _repeated(element: str) -> Callable[[str, int], str]:
    """Return a function that adds an unknown field with a list of equal elements."""

    def many(start: str, size: int) -> str:
        count = max(1, size // (len(element) + 1))
        return f'{start}, "x": [{",".join([element] * count)}]}}'

    return many


def _many_keys(start: str, size: int) -> str:
    return start + "".join(f',"{number:x}":0' for number in range(size // 10)) + "}"


def _unicode_keys(start: str, size: int) -> str:
    keys = (
        f',"{chr(0x4E00 + number % 20_000)}{number // 20_000}":0' for number in range(size // 9)
    )
    return start + "".join(keys) + "}"


def _one_repeated_key(start: str, size: int) -> str:
    return start + ',"event_id":1' * (size // 13) + "}"


def _deep(opening: str) -> Callable[[str, int], str]:
    def nested(_start: str, size: int) -> str:
        return opening * (size // len(opening))

    return nested


def _long(field: str, piece: str) -> Callable[[str, int], str]:
    def text(start: str, size: int) -> str:
        return f'{start}, "{field}": "{piece * (size // len(piece))}"}}'

    return text


def _digits(before: str) -> Callable[[str, int], str]:
    def number(start: str, size: int) -> str:
        return f'{start}, "x": {before}{"7" * size}}}'

    return number


def _spaces(start: str, size: int) -> str:
    return start + " " * size + "}"


_KINDS: Final[tuple[Callable[[str, int], str], ...]] = (
    *(_repeated(each) for each in ("0", "[]", "{}", '""', "1e9", "null", "[" * 90 + "]" * 90)),
    *(_repeated("8" * count) for count in (290, 640, 4299)),
    *(_deep(each) for each in ("[", '{"a":', '[{"a":', '{"data":"', '"\\"')),
    *(_long("x", each) for each in ("a", "\\u0041", "é", "\\n", "a,", "a[", "1", "\\ud83d\\ude00")),
    *(_long(each, "7") for each in ("ip", "user_agent", "accepted_at", "content_sha256")),
    *(_digits(each) for each in ("", "-", "0.", "1e", "1e-")),
    _many_keys,
    _unicode_keys,
    _one_repeated_key,
    _spaces,
)  # fmt: skip
