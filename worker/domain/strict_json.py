"""JSON without ambiguity: a byte order mark is skipped, a duplicate name is an error."""

from __future__ import annotations

import json
from typing import Any, Final

from pydantic_core import from_json

_BOM: Final = b"\xef\xbb\xbf"
_NAME_SHOWN_CHARACTERS: Final = 64
_PATH_SHOWN_NAMES: Final = 8


class DuplicateNameError(ValueError):
    """A name occurs twice in one object, so that readers disagree on its value."""


class _Members(list[tuple[str, Any]]):
    """The members of one object, in order, duplicates included."""


def read(raw: bytes) -> Any:
    """Parse JSON text (RFC 8259).

    Args:
        raw: UTF-8, with or without a byte order mark.

    Raises:
        DuplicateNameError: an object has two members of one name, however they are escaped.
        ValueError: the text is not JSON.
    """
    raw = raw.removeprefix(_BOM)
    data = from_json(raw, allow_inf_nan=False, cache_strings="keys")
    # The parser keeps the last of two members, and so loses at least one name that the text has.
    if 2 * _strings_of(data) != _unescaped_quotes(raw):
        raise DuplicateNameError(f"{_duplicate(raw)}: duplicate name")
    return data


def read_text(text: str, **options: Any) -> Any:
    """Parse JSON with the standard library, which keeps numbers of any size.

    Args:
        text: with or without a byte order mark.
        options: of `json.loads`.

    Raises:
        DuplicateNameError: an object has two members of one name.
        ValueError: the text is not JSON.
        RecursionError: the text is nested too deeply.
    """
    return json.loads(text.removeprefix("\ufeff"), object_pairs_hook=_unique, **options)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise DuplicateNameError(f"{_shown(_repeated(pairs))}: duplicate name")
    return members


def _unescaped_quotes(raw: bytes) -> int:
    if b"\\" not in raw:
        return raw.count(b'"')
    # In valid JSON a run of backslashes begins with an escape, so removing pairs leaves `\"` whole.
    escapes = raw.replace(b"\\\\", b"") if b"\\\\" in raw else raw
    return raw.count(b'"') - escapes.count(b'\\"')


def _strings_of(value: Any) -> int:
    """Count the strings in a value, names included."""
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
            count += _strings_of(each)
    return count


def _duplicate(raw: bytes) -> str:
    data = json.loads(raw, object_pairs_hook=_Members)
    places = [_shown(name) for name in _path_to_duplicate(data) or []]
    if len(places) > _PATH_SHOWN_NAMES:
        places = [*places[: _PATH_SHOWN_NAMES - 2], "…", places[-1]]
    return ".".join(places)


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
    """Return a name as one short word, quoted and escaped where it is not plain."""
    plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    if plain and len(name) <= _NAME_SHOWN_CHARACTERS:
        return name
    short = name[:_NAME_SHOWN_CHARACTERS]
    return json.dumps(short) + ("…" if short != name else "")
