"""Unknown fields survive in a record byte for byte, whatever their values and envelopes."""

from __future__ import annotations

import json
import random
from typing import Final

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, TEXT, message
from worker.domain.envelope import decode
from worker.domain.evidence import build_item, same_content, verify

_BODIES: Final = 10_000
_NUMBERS: Final = (
    "0", "-0", "1.10", "1E5", "1e+05", "-1.0e-9", "12345678901234567890.123456789", "0.1000",
    "9007199254740993", "1e308", "4.9e-324", "-12345678901234567890",
)  # fmt: skip
_CHARACTERS: Final = (
    "a", "\u00e9", "e\u0301", "\u007f", "\U0001f600", "\u2028", "\ufeff", " ", "<", "'",
    r"\"", r"\\", r"\/", r"\b", r"\n", r"\u0000", r"\u00e9", r"\ud83d\ude00", r"\u007F",
)  # fmt: skip
_SPACE: Final = ("", "", "", " ", "\n", "\t", " \r\n ")


def _string(source: random.Random) -> str:
    return f'"{"".join(source.choices(_CHARACTERS, k=source.randrange(6)))}"'


def _value(source: random.Random, depth: int = 0) -> str:
    kind = source.randrange(6 if depth < 4 else 4)
    if kind == 0:
        return source.choice(("null", "true", "false"))
    if kind == 1:
        return _string(source)
    if kind in {2, 3}:
        return source.choice(_NUMBERS)
    inner = [_value(source, depth + 1) for _ in range(source.randrange(4))]
    if kind == 4:
        inner = [f'"{number}"{_space(source)}:{each}' for number, each in enumerate(inner)]
    opened, closed = "{}" if kind == 4 else "[]"
    separator = f"{_space(source)},{_space(source)}"
    return f"{opened}{_space(source)}{separator.join(inner)}{_space(source)}{closed}"


def _space(source: random.Random) -> str:
    return source.choice(_SPACE)


def _wrapped(source: random.Random, text: str) -> str:
    kind = source.randrange(5)
    if kind == 0:
        return f'{{"specversion":"1.0",{_space(source)}"data"{_space(source)}:{text}}}'
    if kind == 1:
        return json.dumps({"Type": "Notification", "TopicArn": "arn", "Message": text})
    if kind == 2:
        return f'{{"detail-type":"x","detail":{text}}}'
    return text


def test_ten_thousand_bodies_with_unknown_fields_survive_byte_for_byte() -> None:
    source = random.Random(14)
    for number in range(_BODIES):
        unknown = {f"x{each}": _value(source) for each in range(1 + source.randrange(4))}
        members = [
            *(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in message(number).items()),
            *(
                f'{_space(source)}"{name}"{_space(source)}:{_space(source)}{value}{_space(source)}'
                for name, value in unknown.items()
            ),
        ]
        source.shuffle(members)
        body = _wrapped(source, f"{{{','.join(members)}}}")
        stated = decode(body, now=START, clock_skew_seconds=300)
        item = build_item(stated, TEXT, ORIGIN, recorded_at=START)
        expected = [f'"{name}":{value}' for name, value in unknown.items()]
        extra = item["extra"]
        assert len(extra) == len(",".join(expected)) + 2, body  # the order is that of the body
        assert all(each in extra for each in expected), body
        assert verify(item) == []
        assert same_content(item, stated)
