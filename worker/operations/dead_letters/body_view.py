"""A dead letter's body laid out for a person, with what is wrong marked where it is."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from worker.domain.envelope import unwrap
from worker.errors import Reason, RefusedError
from worker.operations.dead_letters.dead_letter import DeadLetter

_FIELDS: Final = {
    Reason.UNKNOWN_POLICY: "version",
    Reason.CONTENT_MISMATCH: "content_sha256",
    Reason.CONFLICT: "event_id",
}
_PROBLEM: Final = re.compile(r"(?P<path>[\w.-]+|[\w.]*unknown fields): (?P<text>.+)", re.DOTALL)
_UNREADABLE: Final = re.compile(
    r"(?:(?P<path>[\w.]+): )?"
    r"(?P<text>not JSON: (?P<what>.+) at line (?P<line>\d+) column (?P<column>\d+)"
    r"|not UTF-8 at character (?P<offset>\d+))(?: \((?P<hint>.+)\))?"
)
_INDENT: Final = "  "


@dataclass(frozen=True, slots=True)
class BodyLine:
    """One line of a body.

    Attributes:
        note: what is wrong here; empty where nothing is.
        column: at which character of the line, from 0; None for the whole of it.
    """

    text: str
    note: str = ""
    column: int | None = None


@dataclass(frozen=True, slots=True)
class BodyPart:
    """The body, or a text within it that holds the acceptance.

    Attributes:
        path: where it is, such as `Message`; empty for the body itself.
    """

    path: str
    lines: tuple[BodyLine, ...]


@dataclass(frozen=True, slots=True)
class _Mark:
    """What is wrong, and where: a field's names, or a place in a text that cannot be read."""

    names: tuple[str, ...]
    note: str
    line: int | None = None
    column: int = 0  # in bytes, from 1
    offset: int | None = None  # in characters, from 0


def lay_out(letter: DeadLetter) -> list[BodyPart]:
    """Indent a body that is JSON, leave another as it is, and mark what is wrong.

    Args:
        letter: its reason and detail tell what is wrong.

    Returns:
        The body, then each text inside its envelopes that is JSON itself.
    """
    try:
        _, path = unwrap(letter.message.body)
    except RefusedError:
        path = ""
    marks = _marks(letter, path)
    inner = _names(path)
    if not inner and marks and letter.reason == Reason.MALFORMED:
        # A text that cannot be parsed, or the object in it that has a name twice.
        inner = marks[0].names if marks[0].line is not None else marks[0].names[:-1]
    return list(_parts(letter.message.body, (), inner, marks))


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split(".") if name)


def _marks(letter: DeadLetter, path: str) -> list[_Mark]:
    detail = letter.detail
    if letter.reason in _FIELDS:
        return [_Mark((*_names(path), _FIELDS[Reason(letter.reason)]), detail)]
    if letter.reason not in {Reason.MALFORMED, Reason.INVALID}:
        return []
    place = _UNREADABLE.fullmatch(detail)
    if place is None:
        return _problems(detail)
    names = _names(place["path"] or "")
    hint = f" ({place['hint']})" if place["hint"] else ""
    if place["offset"] is not None:
        return [_Mark(names, f"{place['text']}{hint}", line=0, offset=int(place["offset"]))]
    line, column = int(place["line"]), int(place["column"])
    return [_Mark(names, f"{place['what']}{hint}", line=line, column=column)]


def _problems(detail: str) -> list[_Mark]:
    marks: list[_Mark] = []
    for text in detail.split("; "):
        problem = _PROBLEM.fullmatch(text)
        if problem is not None:
            marks.append(_Mark(_names(problem["path"]), text))
        elif marks:  # it was no border between two problems
            marks[-1] = replace(marks[-1], note=f"{marks[-1].note}; {text}")
        else:
            marks.append(_Mark((), text))
    return marks


def _parts(
    text: str, at: tuple[str, ...], inner: tuple[str, ...], marks: Sequence[_Mark]
) -> Iterator[BodyPart]:
    here = [mark for mark in marks if mark.names == at]
    text = text.removeprefix("\ufeff")  # places are counted without it
    try:
        data = _read(text) if all(mark.line is None for mark in here) else None
        lines = list(_lines(data, (), "", ""))
    except (ValueError, RecursionError):
        data = None
    if data is None:
        yield BodyPart(".".join(at), tuple(_as_it_is(text, here)))
        return
    found = _text_within(data, inner[len(at) :])
    below = (*at, *found[0]) if found else None
    ours = [mark for mark in marks if below is None or mark.names[: len(below)] != below]
    yield BodyPart(".".join(at), tuple(_marked(lines, ours, len(at))))
    if found and below:
        yield from _parts(found[1], below, inner, marks)


def _read(text: str) -> Any:
    return json.loads(
        text, object_pairs_hook=_Members, parse_int=_Raw, parse_float=_Raw, parse_constant=_Raw
    )


class _Raw(str):
    """A number as it was written."""

    __slots__ = ()


class _Members(list[tuple[str, Any]]):
    """The members of an object, each one that was written, in order."""


_Line = tuple[tuple[str, ...], str]


def _lines(value: Any, path: tuple[str, ...], before: str, after: str) -> Iterator[_Line]:
    """Give each line with the path of what begins there."""
    indent = _INDENT * len(path)
    if isinstance(value, _Members) and value:
        yield path, f"{indent}{before}{{"
        for number, (name, each) in enumerate(value, 1):
            comma = "," if number < len(value) else ""
            yield from _lines(each, (*path, name), f"{_json(name)}: ", comma)
        yield (*path, ""), f"{indent}}}{after}"
    elif isinstance(value, list) and value and not isinstance(value, _Members):
        yield path, f"{indent}{before}["
        for number, each in enumerate(value, 1):
            comma = "," if number < len(value) else ""
            yield from _lines(each, (*path, str(number - 1)), "", comma)
        yield (*path, ""), f"{indent}]{after}"
    else:
        yield path, f"{indent}{before}{_json(value)}{after}"


def _json(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    return "{}" if isinstance(value, _Members) else json.dumps(value, ensure_ascii=False)


def _marked(lines: list[_Line], marks: Sequence[_Mark], depth: int) -> Iterator[BodyLine]:
    """Put each mark on its field's line, or on that of what should hold it."""
    notes: dict[int, list[str]] = {}
    places = {path: index for index, (path, _) in reversed(list(enumerate(lines)))}
    for mark in marks:
        names = mark.names[depth:]
        while names not in places:
            names = names[:-1]
        notes.setdefault(places[names], []).append(mark.note)
    for index, (_, text) in enumerate(lines):
        yield BodyLine(text, "; ".join(notes.get(index, ())))


def _as_it_is(text: str, marks: Sequence[_Mark]) -> Iterator[BodyLine]:
    lines = text.split("\n")
    row, column, note = (-1, None, "") if not marks else _place(lines, marks[0])
    for index, line in enumerate(lines):
        yield BodyLine(line, note, column) if index == row else BodyLine(line)


def _place(lines: list[str], mark: _Mark) -> tuple[int, int | None, str]:
    if mark.offset is not None:
        before = "\n".join(lines)[: mark.offset]
        return before.count("\n"), len(before) - (before.rfind("\n") + 1), mark.note
    if mark.line is None:
        return 0, None, mark.note
    row = min(max(mark.line, 1), len(lines)) - 1
    if mark.note.startswith("EOF"):
        return row, len(lines[row]), mark.note
    raw = lines[row].encode("utf-8", "surrogatepass")[: max(mark.column - 1, 0)]
    return row, len(raw.decode("utf-8", "ignore")), mark.note


def _text_within(data: Any, names: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """Find the first text on the way to where the acceptance is."""
    value = data
    for index, name in enumerate(names, 1):
        value = dict(value).get(name) if isinstance(value, _Members) else None
        if isinstance(value, str) and not isinstance(value, _Raw):
            text = _decoded(value) if name == "data_base64" else value
            return tuple(names[:index]), text
    return None


def _decoded(packed: str) -> str:
    try:
        return base64.b64decode(packed).decode("utf-8", "replace")
    except ValueError:
        return packed
