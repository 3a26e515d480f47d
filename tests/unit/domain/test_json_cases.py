"""Cases of valid and invalid JSON by RFC 8259."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.fakes import fixed_now
from worker.domain.envelope import decode, unwrap
from worker.errors import Reason, RefusedError

# Each is the value of a field, and an element of an array.
VALUES: dict[str, str] = {
    "zero": "0",
    "minus zero": "-0",
    "a negative number": "-12",
    "a fraction": "0.50",
    "an exponent": "6e3",
    "a capital exponent": "6E3",
    "a signed exponent": "6.25e+02",
    "a negative exponent": "6.25E-2",
    "an exponent with zeros": "1e0003",
    "more digits than a double has": "3.14159265358979323846264338327950288",
    "a whole number beyond 64 bits": "123456789012345678901234567890",
    "a number too small for a double": "1e-400",
    "the literals": "[true, false, null]",
    "an empty array": "[]",
    "an empty object": "{}",
    "an empty string": '""',
    "an empty name": '{"": 1}',
    "white space of every kind": "[ \t\r\n1 \t\r\n,\t2\r]",
    "the short escapes": r'"\"\\\/\b\f\n\r\t"',
    "a hexadecimal escape": r'"\u00e9\u00E9"',
    "an escaped null character": r'"\u0000"',
    "a surrogate pair": r'"\ud83d\uDE00"',
    "an escaped noncharacter": r'"\uffff\ufdd0"',
    "two noncharacters in UTF-8": '"\uffff\U0010ffff"',
    "delete, which needs no escape": '"\x7f"',
    "line separators, which need none": '"\u2028\u2029"',
    "a byte order mark in a string": '"\ufeff"',
    "a comment in a string": '"/* no // comment */"',
    "braces in a string": '"]}[{"',
    "a solidus without an escape": '"a/b"',
    "nesting of fifty arrays": "[" * 50 + "]" * 50,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=list(VALUES))
def test_json_is_parsed_as_by_the_standard_library(value: str) -> None:
    for text in (f'{{"event_id": {value}}}', f'\n\t{{"x": [{value}], "event_id": 1}} \r\n'):
        assert dict(unwrap(text)[0]) == json.loads(text)


NOT_JSON: dict[str, str] = {
    "a capital literal": "True",
    "a literal cut short": "nul",
    "not a number": "NaN",
    "infinity": "-Infinity",
    "undefined": "undefined",
    "a leading zero": "01",
    "a negative leading zero": "-01",
    "a leading plus": "+1",
    "a sign alone": "-",
    "a point without digits before it": ".5",
    "a point without digits after it": "5.",
    "a point before an exponent": "5.e1",
    "an exponent without digits": "5e",
    "an exponent with a sign alone": "5e+",
    "a hexadecimal number": "0x1F",
    "digits in groups": "1_000",
    "digits of another script": "\u0967",
    "a space in a number": "1 000",
    "a string in single quotes": "'a'",
    "a string without an end": '"a',
    "a new line in a string": '"a\nb"',
    "a tab in a string": '"a\tb"',
    "a null character in a string": '"a\0b"',
    "an escape of another language": r'"\x41"',
    "an escape of a digit": r'"\0"',
    "a hexadecimal escape cut short": r'"\u00e"',
    "a hexadecimal escape with another letter": r'"\u00eg"',
    "a backslash at the end": '"a\\"',
    "a comma at the end of an array": "[1,]",
    "a comma at the start": "[,1]",
    "two commas": "[1,,2]",
    "no comma": "[1 2]",
    "a colon in an array": "[1: 2]",
    "an array without an end": "[1",
    "an array closed as an object": "[1}",
    "a comma at the end of an object": '{"a": 1,}',
    "two colons": '{"a":: 1}',
    "a name without a value": '{"a"}',
    "a name without quotes": "{a: 1}",
    "a number as a name": "{1: 1}",
    "an equals sign": '{"a" = 1}',
    "a comment": "/* a */ 1",
    "a comment to the end of the line": "1 // a\n",
    "another white space": "\u00a01",
    "a form feed": "\x0c1",
    "a byte order mark inside": "\ufeff1",
    "nothing": "",
}


@pytest.mark.parametrize("value", NOT_JSON.values(), ids=list(NOT_JSON))
def test_what_is_not_json_is_malformed(value: str) -> None:
    for text in (f'{{"event_id": {value}}}', f'{{"event_id": 1, "x": {value}}}'):
        assert _reason(text) is Reason.MALFORMED


AROUND: dict[str, str | bytes] = {
    "a second value": '{"event_id": 1} {"event_id": 1}',
    "a closing brace": '{"event_id": 1}}',
    "a comma behind": '{"event_id": 1},',
    "a null character behind": '{"event_id": 1}\0',
    "a prefix against hijacking": ')]}\',\n{"event_id": 1}',
    "an opening brace": "{",
    "a closing bracket": "]",
    "UTF-16": '{"event_id": 1}'.encode("utf-16"),
    "UTF-16 without a mark": '{"event_id": 1}'.encode("utf-16-le"),
    "Latin-1": '{"event_id": "é"}'.encode("latin-1"),
    "UTF-8 cut short": '{"event_id": "é"}'.encode()[:-3],
    "an overlong solidus": b'{"event_id": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"event_id": "\xed\xa0\x80"}',
    "beyond Unicode": b'{"event_id": "\xf4\x90\x80\x80"}',
    "a lone continuation byte": b'{"event_id": "\x80"}',
}

# RFC 8259 leaves these to the parser; a record would lose or change them.
STRICTLY_REJECTED: dict[str, str] = {
    "a lone leading surrogate": r'{"event_id": "\ud800"}',
    "a lone trailing surrogate": r'{"event_id": "\udc00"}',
    "surrogates in reverse order": r'{"event_id": "\ude00\ud83d"}',
    "a leading surrogate before another escape": r'{"event_id": "\ud800\n"}',
    "a name twice": '{"event_id": 1, "event_id": 1}',
    "a name twice, with different values": '{"event_id": 1, "x": {"a": 1, "a": 2}}',
    "nesting of a thousand arrays": '{"event_id": ' + "[" * 1000 + "]" * 1000 + "}",
}


@pytest.mark.parametrize(
    "text",
    [*AROUND.values(), *STRICTLY_REJECTED.values()],
    ids=[*AROUND, *STRICTLY_REJECTED],
)
def test_text_other_than_one_json_object_in_utf_8_is_malformed(text: str | bytes) -> None:
    assert _reason(text) is Reason.MALFORMED


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1" * 400])
def test_number_beyond_the_range_of_a_double_is_invalid(number: str) -> None:
    fields: dict[str, Any] = {"event_id": "e", "user_id": "u", "policy_id": "p", "version": "1"}
    text = json.dumps({**fields, "accepted_at": "2026-11-01T00:00:00Z", "x": 0})
    assert _reason(text.replace('"x": 0', f'"x": {number}')) in {Reason.INVALID, Reason.MALFORMED}


def _reason(text: str | bytes) -> Reason:
    with pytest.raises(RefusedError) as caught:
        decode(text, now=fixed_now(), clock_skew_seconds=300)
    return caught.value.reason
