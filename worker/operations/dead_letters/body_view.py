"""Formatted body of a dead letter, with each problem marked on its line."""

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
        text: The line without its line ending.
        note: Problem on this line; empty if there is none.
        column: Zero-based index of the character with the problem; None for the whole line.
        path: Names of the members that lead to the value on this line, in formatted JSON.
    """

    text: str
    note: str = ""
    column: int | None = None
    path: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BodyPart:
    """The body, or JSON text inside it that contains the acceptance.

    Attributes:
        path: Path of the text, such as `Message`; empty for the body itself.
        lines: Formatted lines.
    """

    path: str
    lines: tuple[BodyLine, ...]


@dataclass(frozen=True, slots=True)
class _Mark:
    """A problem: the path of its field or text, and its position in text that is not JSON."""

    names: tuple[str, ...]
    note: str
    position: re.Match[str] | None = None


def format_body(dead_letter: DeadLetter) -> list[BodyPart]:
    """Indent a JSON body, leave any other body unchanged, and mark the problems.

    Args:
        dead_letter: Dead letter whose reason and detail describe the problems.

    Returns:
        The body, followed by each JSON text inside its envelopes.
    """
    try:
        _, path = unwrap(dead_letter.message.body)
    except RefusedError:
        path = ""
    marks = _marks(dead_letter, path)
    inner = _names(path)
    if not inner and marks and dead_letter.reason == Reason.MALFORMED:
        # Text that cannot be parsed, or the object in it that has a duplicate name.
        inner = marks[0].names if marks[0].position else marks[0].names[:-1]
    return list(_parts(dead_letter.message.body, (), inner, marks))


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split(".") if name)


def _marks(dead_letter: DeadLetter, path: str) -> list[_Mark]:
    detail = dead_letter.detail
    if dead_letter.reason in _FIELDS:
        return [_Mark((*_names(path), _FIELDS[Reason(dead_letter.reason)]), detail)]
    if dead_letter.reason not in {Reason.MALFORMED, Reason.INVALID}:
        return []
    match = _UNREADABLE.fullmatch(detail)
    if match is None:
        return _problems(detail)
    hint = f" ({match['hint']})" if match["hint"] else ""
    return [_Mark(_names(match["path"] or ""), f"{match['what'] or match['text']}{hint}", match)]


def _problems(detail: str) -> list[_Mark]:
    marks: list[_Mark] = []
    for text in detail.split("; "):
        problem = _PROBLEM.fullmatch(text)
        if problem is not None:
            marks.append(_Mark(_names(problem["path"]), text))
        elif marks:  # the separator was part of a problem's text
            marks[-1] = replace(marks[-1], note=f"{marks[-1].note}; {text}")
        else:
            marks.append(_Mark((), text))
    return marks


def _parts(
    text: str, at: tuple[str, ...], inner: tuple[str, ...], marks: Sequence[_Mark]
) -> Iterator[BodyPart]:
    here = [mark for mark in marks if mark.names == at]
    text = text.removeprefix("\ufeff")  # positions do not count the byte order mark
    try:
        data = None if any(mark.position for mark in here) else _read(text)
        lines = list(_lines(data, (), "", ""))
    except (ValueError, RecursionError):
        data = None
    if data is None:
        yield BodyPart(".".join(at), tuple(_unformatted(text, here)))
        return
    found = _inner_text(data, inner[len(at) :])
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
    """A number with its original spelling."""

    __slots__ = ()


class _Members(list[tuple[str, Any]]):
    """The members of an object in their original order, duplicates included."""


_Line = tuple[tuple[str, ...], str]


def _lines(value: Any, path: tuple[str, ...], before: str, after: str) -> Iterator[_Line]:
    """Yield each line with the path of the value that starts on it."""
    indent = _INDENT * len(path)
    if not isinstance(value, list) or not value:
        yield path, f"{indent}{before}{_json(value)}{after}"
        return
    is_object = isinstance(value, _Members)
    opening, closing = "{}" if is_object else "[]"
    members = value if is_object else [(str(index), each) for index, each in enumerate(value)]
    yield path, f"{indent}{before}{opening}"
    for number, (name, each) in enumerate(members, 1):
        label = f"{_json(name)}: " if is_object else ""
        yield from _lines(each, (*path, name), label, "," if number < len(members) else "")
    yield (*path, ""), f"{indent}{closing}{after}"


def _json(value: Any) -> str:
    if isinstance(value, _Raw):
        return str(value)
    return "{}" if isinstance(value, _Members) else json.dumps(value, ensure_ascii=False)


def _marked(lines: list[_Line], marks: Sequence[_Mark], depth: int) -> Iterator[BodyLine]:
    """Add each mark to the line of its field, or of the closest parent that exists."""
    notes: dict[int, list[str]] = {}
    indexes = {path: index for index, (path, _) in reversed(list(enumerate(lines)))}
    for mark in marks:
        names = mark.names[depth:]
        while names not in indexes:
            names = names[:-1]
        notes.setdefault(indexes[names], []).append(mark.note)
    for index, (path, text) in enumerate(lines):
        yield BodyLine(text, "; ".join(notes.get(index, ())), path=path)


def _unformatted(text: str, marks: Sequence[_Mark]) -> Iterator[BodyLine]:
    lines = text.split("\n")
    row, column = _position(lines, marks[0]) if marks else (-1, None)
    for index, line in enumerate(lines):
        yield BodyLine(line, marks[0].note, column) if index == row else BodyLine(line)


def _position(lines: list[str], mark: _Mark) -> tuple[int, int | None]:
    """Return the row of a problem, and its column in characters; both start at 0."""
    if mark.position is None:
        return 0, None
    line, column, offset = mark.position.group("line", "column", "offset")
    if offset:
        before = "\n".join(lines)[: int(offset)]
        return before.count("\n"), len(before) - (before.rfind("\n") + 1)
    row = min(max(int(line), 1), len(lines)) - 1
    if mark.note.startswith("EOF"):
        return row, len(lines[row])
    # The column counts bytes, from 1.
    raw = lines[row].encode("utf-8", "surrogatepass")[: max(int(column) - 1, 0)]
    return row, len(raw.decode("utf-8", "ignore"))


def _inner_text(data: Any, names: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """Return the first string on the path to the acceptance, and its path."""
    value = data
    for index, name in enumerate(names, 1):
        value = dict(value).get(name) if isinstance(value, _Members) else None
        if isinstance(value, str) and not isinstance(value, _Raw):
            text = _decoded(value) if name == "data_base64" else value
            return tuple(names[:index]), text
    return None


def _decoded(encoded: str) -> str:
    try:
        return base64.b64decode(encoded).decode("utf-8", "replace")
    except ValueError:
        return encoded
