"""Canonical JSON: the published vectors of RFC 8785, and agreement with another implementation."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.canonical_json import canonical, sha256

# RFC 8785, section 3.2.3, and the files french, unicode and weird of its published test data.
_VECTORS = {
    "order of UTF-16 code units": (
        {
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "1": "One",
            "\U0001f600": "Emoji: Grinning Face",
            "\u0080": "Control",
            "\u00f6": "Latin Small Letter O With Diaeresis",
        },
        (
            '{"\\r":"Carriage Return","1":"One","\u0080":"Control",'
            '"\u00f6":"Latin Small Letter O With Diaeresis","\u20ac":"Euro Sign",'
            '"\U0001f600":"Emoji: Grinning Face","\ufb33":"Hebrew Letter Dalet With Dagesh"}'
        ),
    ),
    "french": (
        {
            "peach": "This sorting order",
            "p\u00e9ch\u00e9": "is wrong according to French",
            "p\u00eache": "but canonicalization MUST",
            "sin": "ignore locale",
        },
        (
            '{"peach":"This sorting order","p\u00e9ch\u00e9":"is wrong according to French",'
            '"p\u00eache":"but canonicalization MUST","sin":"ignore locale"}'
        ),
    ),
    "unicode": (
        {"Unnormalized Unicode": "A\u030a"},
        '{"Unnormalized Unicode":"A\u030a"}',
    ),
    "weird": (
        {
            "\u20ac": "Euro Sign",
            "\r": "Carriage Return",
            "\n": "Newline",
            "1": "One",
            "\u0080": "Control\u007f",
            "\U0001f602": "Smiley",
            "\u00f6": "Latin Small Letter O With Diaeresis",
            "\ufb33": "Hebrew Letter Dalet With Dagesh",
            "</script>": "Browser Challenge",
        },
        (
            '{"\\n":"Newline","\\r":"Carriage Return","1":"One","</script>":"Browser Challenge",'
            '"\u0080":"Control\u007f","\u00f6":"Latin Small Letter O With Diaeresis",'
            '"\u20ac":"Euro Sign","\U0001f602":"Smiley",'
            '"\ufb33":"Hebrew Letter Dalet With Dagesh"}'
        ),
    ),
    # The string of section 3.2.2.
    "escapes": (
        {"string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/"},
        '{"string":"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    ),
}


@pytest.mark.parametrize(("fields", "expected"), _VECTORS.values(), ids=_VECTORS)
def test_published_vectors(fields: dict[str, str], expected: str) -> None:
    assert canonical(fields) == expected.encode()
    assert sha256(fields) == hashlib.sha256(expected.encode()).digest()
    assert rfc8785.dumps(fields) == expected.encode()


@pytest.mark.parametrize(
    "text",
    ["", "\u007f", "\U0001f600", "e\u0301", "\u00e9", "\u2028\u2029", "\ufeff", "\x00", "/", "<>&"],
    ids=ascii,
)
def test_text_is_written_as_by_another_implementation(text: str) -> None:
    assert canonical({"name": text, text: ""}) == rfc8785.dumps({"name": text, text: ""})


def test_every_character_below_the_surrogates_is_written_as_by_another_implementation() -> None:
    text = "".join(map(chr, range(0xD800)))
    assert canonical({"text": text}) == rfc8785.dumps({"text": text})


@given(st.dictionaries(st.text(), st.text(), max_size=8))
def test_any_object_is_written_as_by_another_implementation(fields: dict[str, str]) -> None:
    assert canonical(fields) == rfc8785.dumps(fields)


@pytest.mark.parametrize(
    "fields",
    [{"text": "\ud800"}, {"\u00e9": "\udfff"}, {"\ud800": ""}],
    ids=["value", "value with a name outside ASCII", "name"],
)
def test_lone_surrogate_is_an_error(fields: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="surrogate"):
        canonical(fields)
