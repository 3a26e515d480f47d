"""Strict JSON: as the standard library, except that duplicate names are errors."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from worker.domain.strict_json import DuplicateNameError, members, read, read_text, without

# Few characters, so that names collide; among them are escaped ones.
_CHARACTERS = 'ab"\\/{}[],:\u00e9\n\u2028\U0001f600'


class Pairs(list[tuple[str, Any]]):
    """Members of an object; names may occur twice."""


def _document(chance: random.Random, depth: int = 4) -> Any:
    kind = chance.choice(("leaf", "list", "object", "object")) if depth else "leaf"
    if kind == "leaf":
        leaves = (None, True, chance.randint(-9, 10**25), chance.uniform(-9, 9), _text(chance))
        return chance.choice(leaves)
    values = [_document(chance, depth - 1) for _ in range(chance.randint(0, 4))]
    return values if kind == "list" else Pairs((_text(chance), value) for value in values)


def _text(chance: random.Random) -> str:
    return "".join(chance.choices(_CHARACTERS, k=chance.randint(0, 4)))


def _written(value: Any, is_escaped: Callable[[], bool]) -> str:
    """Write a document; each character of a string is escaped or not, as drawn."""
    if isinstance(value, Pairs):
        members = [f"{_string(k, is_escaped)}: {_written(v, is_escaped)}" for k, v in value]
        return f"{{{', '.join(members)}}}"
    if isinstance(value, list):
        return f"[{', '.join(_written(each, is_escaped) for each in value)}]"
    return _string(value, is_escaped) if isinstance(value, str) else json.dumps(value)


def _string(text: str, is_escaped: Callable[[], bool]) -> str:
    characters = [
        "".join(f"\\u{unit:04x}" for unit in _units(each))
        if is_escaped()
        else json.dumps(each, ensure_ascii=False)[1:-1]
        for each in text
    ]
    return f'"{"".join(characters)}"'


def _units(character: str) -> list[int]:
    encoded = character.encode("utf-16-be")
    return [int.from_bytes(encoded[at : at + 2], "big") for at in range(0, len(encoded), 2)]


def _has_duplicate(value: Any) -> bool:
    if isinstance(value, Pairs):
        names = [name for name, _ in value]
        return len(set(names)) < len(names) or any(_has_duplicate(each) for _, each in value)
    return isinstance(value, list) and any(map(_has_duplicate, value))


def _is_rejected(parse: Callable[[Any], Any], text: str | bytes) -> bool:
    try:
        parse(text)
    except DuplicateNameError:
        return True
    return False


def test_only_objects_with_a_duplicate_name_are_rejected() -> None:
    rejected = 0
    for seed in range(1500):
        chance = random.Random(seed)
        document = _document(chance)
        text = _written(document, partial(chance.choice, (True, False)))
        is_rejected = [_is_rejected(read, text.encode()), _is_rejected(read_text, text)]
        assert is_rejected == [_has_duplicate(document)] * 2, f"seed {seed}: {text}"
        if is_rejected[0]:
            rejected += 1
        else:
            assert read(text.encode()) == json.loads(text) == read_text(text), f"seed {seed}"
    assert 200 < rejected < 1300


DUPLICATES = {
    "at the top": ('{"a": 1, "b": 2, "a": 1}', "a"),
    "escaped": (r'{"a": 1, "\u0061": 1}', "a"),
    "escaped twice": (r'{"\u00e9": 1, "\u00E9": 1}', r'"\u00e9"'),
    "a surrogate pair": ('{"\U0001f600": 1, "\\ud83d\\ude00": 1}', r'"\ud83d\ude00"'),
    "in a list": ('{"x": [1, {"y": {"a": 1, "a": 2}}]}', "x.1.y.a"),
    "in the second of two": ('{"x": {"a": 1}, "y": {"a": 1, "b": 2, "b": 3}}', "y.b"),
    "an overwritten object": ('{"a": {"b": "c", "d": ["e"]}, "a": 1}', "a"),
    "an overwritten list": ('{"a": [[], {}], "a": "x"}', "a"),
    "inside what is overwritten": ('{"a": {"b": 1, "b": 2}, "c": 3}', "a.b"),
    "the empty name": ('{"": 1, "": 2}', '""'),
    "a quote": (r'{"\"": 1, "\u0022": 2}', r'"\""'),
    "a backslash before the end": (r'{"a\\": "\\", "a\\": "\\\""}', r'"a\\"'),
    "a long name": (f'{{"{"n" * 500}": 1, "{"n" * 500}": 2}}', f'"{"n" * 64}"…'),
    "a new line": (r'{"a\nb": 1, "a\nb": 2}', r'"a\nb"'),
    "a bidirectional control": ('{"\u202e": 1, "\u202e": 2}', r'"\u202e"'),
    "next to the longest number": ('{"n": %s, "a": 1, "a": 2}' % ("1" * 4300), "a"),
    "deep down": ('{"a":' * 60 + '{"b":1,"b":2}' + "}" * 60, "a.a.a.a.a.a.….b"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "name"), DUPLICATES.values(), ids=list(DUPLICATES))
def test_duplicate_name_is_reported_with_its_path(text: str, name: str) -> None:
    with pytest.raises(DuplicateNameError) as caught:
        read(text.encode())
    assert str(caught.value) == f"{name}: duplicate name"
    assert str(caught.value).isascii() or "…" in str(caught.value)


SIMILAR = {
    "one name in two objects": '{"a": {"a": 1}, "b": [{"a": 1}, {"a": 1}]}',
    "names that differ in case": '{"a": 1, "A": 1}',
    "names that only look alike": '{"\u00e9": 1, "e\u0301": 1}',
    "a name as a value": '{"a": "a", "b": "a"}',
    "quotes in values": r'{"a": "\"\\\"", "b": "\\\\", "c": "\u0022"}',
    "text that looks like a duplicate": json.dumps({"a": '{"a":1,"a":2}', "b": '\\"a\\":'}),
}


@pytest.mark.parametrize("text", SIMILAR.values(), ids=list(SIMILAR))
def test_similar_names_are_not_duplicates(text: str) -> None:
    assert read(text.encode()) == json.loads(text)


def test_byte_order_mark_is_skipped_only_at_the_start() -> None:
    assert read(b'\xef\xbb\xbf{"a": 1}') == {"a": 1} == read_text('\ufeff{"a": 1}')
    for text in ("\ufeff\ufeff{}", "{}\ufeff", '{\ufeff"a": 1}'):
        with pytest.raises(ValueError, match="line 1"):
            read(text.encode())
    assert read('{"a": "\ufeff"}'.encode()) == {"a": "\ufeff"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{}", {}),
        (" { } ", {}),
        (r'{"a":1.10,"\u0062\"":"\u0041"}', {"a": "1.10", 'b"': r'"\u0041"'}),
        ('\t{ "a" : [ 1 , {"b": "}"} ] ,\r\n"c":null }', {"a": '[ 1 , {"b": "}"} ]', "c": "null"}),
        (f'{{"n":{"9" * 5000},"":-0}}', {"n": "9" * 5000, "": "-0"}),
        (r'{"\ud800": "\udc00", "a":1.0}', {"\ud800": r'"\udc00"', "a": "1.0"}),
        ('\ufeff{"a": "\ud800"}', {"a": '"\ud800"'}),
    ],
    ids=["empty", "space", "escapes", "nested", "long number", "half a pair", "no UTF-8"],
)
def test_members_are_returned_as_they_are_written(text: str, expected: dict[str, str]) -> None:
    assert members(text) == expected


def test_members_of_any_object_have_its_values() -> None:
    chance = random.Random(0)
    for _ in range(500):
        values = [_document(chance, 3) for _ in range(chance.randrange(5))]
        document = Pairs((f"{number}\n", value) for number, value in enumerate(values))
        text = _written(document, partial(chance.choice, (True, False)))
        found = members(text)
        assert [json.loads(value) for value in found.values()] == [
            json.loads(_written(value, lambda: False)) for value in values
        ]
        assert list(found) == [name for name, _ in document]
        assert all(value in text for value in found.values())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a":1,"b":2}', "{}"),
        (r'{"\u0061":1,"c":1.10}', '{"c":1.10}'),
        ('\ufeff{ "c" : [ 1 ] , "a" : 1 , "d\\n" : "\\u0041" }', r'{"c":[ 1 ],"d\n":"\u0041"}'),
        (r'{"a":"\ud800","\"":"\udc00"}', r'{"\"":"\udc00"}'),
    ],
    ids=["all", "an escaped name", "space", "half a pair"],
)
def test_object_without_members_has_the_others_as_they_are_written(
    text: str, expected: str
) -> None:
    assert without(text, ("a", "b")) == expected


def test_names_are_written_as_the_standard_library_writes_them() -> None:
    characters = [chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), 512):
        fields = dict.fromkeys(characters[start : start + 512], 0)
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
        assert without(json.dumps(fields), ()) == text
