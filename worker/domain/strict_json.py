"""Strict JSON parsing: duplicate names are errors, and a byte order mark is skipped."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from json.encoder import encode_basestring
from typing import Any, Final

import msgspec
from pydantic_core import from_json

_BOM: Final = b"\xef\xbb\xbf"
_NAME_SHOWN_CHARACTERS: Final = 64
_PATH_SHOWN_NAMES: Final = 8
_SPACE: Final = re.compile(r"[ \t\n\r]*")
# Numbers stay text: converting long ones is slow, or an error.
_DECODER: Final = json.JSONDecoder(parse_int=str, parse_float=str)
_raw_values: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class DuplicateNameError(ValueError):
    """An object has two members with the same name; parsers disagree on which one counts."""


class _Members(list[tuple[str, Any]]):
    """Members of an object in order, including duplicates."""


def read(raw: bytes) -> Any:
    """Parse JSON text (RFC 8259).

    Args:
        raw: UTF-8, with or without a byte order mark.

    Raises:
        DuplicateNameError: An object has two members with the same name, after unescaping.
        ValueError: The text is not JSON.
    """
    raw = raw.removeprefix(_BOM)
    data = from_json(raw, allow_inf_nan=False, cache_strings="keys")
    # The parser keeps the last of two equal names, so the text has more strings than the result.
    if strings_of(data) != count_strings(raw):
        raise DuplicateNameError(f"{_duplicate(raw)}: duplicate name")
    return data


def read_text(text: str, **options: Any) -> Any:
    """Parse JSON with the standard library, which preserves numbers of any size.

    Args:
        text: With or without a byte order mark.
        options: Options of `json.loads`.

    Raises:
        DuplicateNameError: An object has two members with the same name.
        ValueError: The text is not JSON.
        RecursionError: The text is nested too deeply.
    """
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique, **options)


def members(text: str) -> dict[str, str]:
    """Return the members of a JSON object as they are written.

    Args:
        text: A JSON object that `read` or `read_text` has accepted.

    Returns:
        By unescaped name, the text of the value, unchanged.
    """
    raw = _raw_members(text)
    if raw is None:
        return _scanned_members(text)
    return {name: str(value, "utf-8") for name, value in raw.items()}


def without(text: str, names: Iterable[str]) -> str:
    """Return a JSON object without some of its members, the values of the others unchanged.

    Args:
        text: As in `members`.
        names: Unescaped names of the members to leave out.
    """
    raw = _raw_members(text)
    kept: dict[str, Any] = _scanned_members(text) if raw is None else raw
    for name in names:
        kept.pop(name, None)
    if raw is not None:
        return str(msgspec.json.encode(raw), "utf-8")
    return f"{{{','.join(f'{encode_basestring(name)}:{value}' for name, value in kept.items())}}}"


def _raw_members(text: str) -> dict[str, msgspec.Raw] | None:
    """Return the members of an object, None if only the standard library can read its text."""
    try:
        return _raw_values(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return None  # such as half a surrogate pair


def _scanned_members(text: str) -> dict[str, str]:
    found = {}
    position = _after_space(text, text.index("{") + 1)
    while text[position] != "}":
        name, position = _DECODER.raw_decode(text, position)
        start = _after_space(text, text.index(":", position) + 1)
        _, end = _DECODER.raw_decode(text, start)
        found[name] = text[start:end]
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
    return found


def _after_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateNameError(f"{_shown(_repeated(pairs))}: duplicate name")
    return members


def count_strings(raw: bytes) -> int:
    """Return the number of strings in valid JSON, names included, from its quotation marks."""
    if b"\\" not in raw:
        return raw.count(b'"') // 2
    # In valid JSON, a run of backslashes starts an escape, so `\"` remains after removing pairs.
    escapes = raw.replace(b"\\\\", b"") if b"\\\\" in raw else raw
    return (raw.count(b'"') - escapes.count(b'\\"')) // 2


def strings_of(value: Any) -> int:
    """Return the number of strings in a value, names included."""
    kind = type(value)
    if kind is str:
        return 1
    count = 0
    if kind is dict:
        count = len(value)
        value = value.values()
    elif kind is not list:
        return 0
    for each in value:
        kind = type(each)
        if kind is str:
            count += 1
        elif kind is dict or kind is list:
            count += strings_of(each)
    return count


def _duplicate(raw: bytes) -> str:
    data = json.loads(raw, object_pairs_hook=_Members)
    path = [_shown(name) for name in _path_to_duplicate(data) or []]
    if len(path) > _PATH_SHOWN_NAMES:
        path = [*path[: _PATH_SHOWN_NAMES - 2], "…", path[-1]]
    return ".".join(path)


def _path_to_duplicate(value: Any) -> list[str] | None:
    if isinstance(value, _Members):
        if len(dict(value)) != len(value):
            return [_repeated(value)]
        members = iter(value)
    elif isinstance(value, list):
        members = ((str(index), each) for index, each in enumerate(value))
    else:
        return None
    for name, each in members:
        below = _path_to_duplicate(each) if isinstance(each, list) else None
        if below is not None:
            return [name, *below]
    return None


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    for name, _ in pairs:
        if name in seen:
            return name
        seen.add(name)
    raise AssertionError("no name is repeated")


def _shown(name: str) -> str:
    """Return a name for an error text: shortened, and quoted and escaped if necessary."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    if plain and len(name) <= _NAME_SHOWN_CHARACTERS:
        return name
    short = name[:_NAME_SHOWN_CHARACTERS]
    return json.dumps(short) + ("…" if short != name else "")
