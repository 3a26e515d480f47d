"""Strict JSON: as the standard library, except that duplicate names are errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.domain.strict_json import DuplicateNameError, read, read_text

# Few characters, so that names collide; among them are escaped ones.
_CHARACTERS = st.text(alphabet='ab"\\/{}[],:\u00e9\n\u2028\U0001f600', max_size=4)
_LEAVES = st.none() | st.booleans() | st.integers(-9, 10**25) | st.floats(-9, 9) | _CHARACTERS


class Pairs(list[tuple[str, Any]]):
    """Members of an object; names may occur twice."""


_DOCUMENTS = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.lists(st.tuples(_CHARACTERS, inner), max_size=5).map(Pairs)
    ),
    max_leaves=30,
)
_ESCAPES = st.lists(st.booleans(), min_size=1, max_size=20)


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


@settings(max_examples=1500)
@given(document=_DOCUMENTS, escapes=_ESCAPES)
def test_only_objects_with_a_duplicate_name_are_rejected(
    document: Any, escapes: list[bool]
) -> None:
    drawn = iter(escapes * 1000)
    text = _written(document, lambda: next(drawn))
    if _has_duplicate(document):
        with pytest.raises(DuplicateNameError):
            read(text.encode())
        with pytest.raises(DuplicateNameError):
            read_text(text)
    else:
        assert read(text.encode()) == json.loads(text) == read_text(text)


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
