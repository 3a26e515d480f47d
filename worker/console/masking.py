"""Bodies and attributes of dead letters with personal values masked."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE
from worker.domain.message import ReceivedMessage
from worker.operations.dead_letters.body_view import BodyLine, BodyPart

MASK: Final = "••••••••"
# Name of the disclosure of everything that is masked in text without fields.
TEXT: Final = "text"
# A body may have a mebibyte; the export contains all of it.
_PART_MAX_CHARACTERS: Final = 12_000
_LINE_MAX_CHARACTERS: Final = 1000
_ATTRIBUTE_MAX_CHARACTERS: Final = 500
_BEFORE_CHARACTERS: Final = 200
# Markup of a line.
_LINE_OVERHEAD: Final = 80
# The erasable fields of a record, and other names of the same things, without case and marks.
_PERSONAL: Final = frozenset(
    {
        "ip", "ipaddress", "ipaddr", "clientip", "remoteip", "sourceip", "userip", "remoteaddr",
        "remoteaddress", "xforwardedfor", "xrealip", "useragent", "ua", "browser", "session",
        "sessionid", "sessionkey", "sessiontoken", "sid", "cookie",
    }
)  # fmt: skip
_MARKS: Final = re.compile(r"[^a-z0-9]")
# A personal name and its value in text that is not JSON, or in JSON inside a string.
_NAMED: Final = re.compile(
    r"""(?P<before>["']?\b(?:(?:client|remote|source|user|x[_-]?real)[_-]?)?"""
    r"""(?:ip(?:[_-]?addr(?:ess)?)?|(?:remote|client)[_-]?addr(?:ess)?|x[_-]?forwarded[_-]?for"""
    r"""|user[_-]?agent|session(?:[_-]?(?:id|key|token))?|cookie)\b\\{0,7}["']?\s{0,9}[:=]\s{0,9})"""
    r"""(?P<value>\\{1,7}"(?:(?!\\{1,7}").){0,4096}(?:\\{1,7}")?|"(?:[^"\\]|\\.)*"?|'[^']*'?"""
    r"""|[^\s,;&}\]]+)""",
    re.IGNORECASE,
)
_ADDRESS: Final = re.compile(
    r"(?<![\w.:])(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)|[0-9a-f]{0,4}(?::[0-9a-f]{0,4}){2,7}"
    r"(?:\d{1,3}(?:\.\d{1,3}){3})?(?![\w:]))",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class MaskedLine:
    """A line of a body as shown.

    Attributes:
        text: The line, with masks.
        note: Problem on this line; empty if there is none.
        column: Zero-based index of the character with the problem; None for the whole line.
        field: Name under which the masked value is disclosed; empty if nothing is masked.
        label: What is masked, for a person.
    """

    text: str
    note: str = ""
    column: int | None = None
    field: str = ""
    label: str = ""

    def shortened(self) -> MaskedLine:
        """Return the line with a limited length, around the character with the problem."""
        if len(self.text) <= _LINE_MAX_CHARACTERS:
            return self
        start = max(0, (self.column or 0) - _BEFORE_CHARACTERS)
        end = start + _LINE_MAX_CHARACTERS
        before, after = "…" if start else "", "…" if end < len(self.text) else ""
        column = None if self.column is None else self.column - start + len(before)
        return replace(self, text=f"{before}{self.text[start:end]}{after}", column=column)


@dataclass(frozen=True, slots=True)
class MaskedPart:
    """A part of a body as shown.

    Attributes:
        path: Path of the text; empty for the body itself.
        lines: Lines to show.
        omitted: Number of lines that are too many to be shown.
    """

    path: str
    lines: tuple[MaskedLine, ...]
    omitted: int = 0

    def shortened(self) -> MaskedPart:
        """Return the part with a limited length; lines with a problem are kept."""
        lines, kept, characters = [each.shortened() for each in self.lines], [], 0
        for each in lines:
            characters += len(each.text) + _LINE_OVERHEAD
            if each.note or characters <= _PART_MAX_CHARACTERS:
                kept.append(each)
        return MaskedPart(self.path, tuple(kept), len(lines) - len(kept))


@dataclass(frozen=True, slots=True)
class MaskedAttribute:
    """An attribute as shown; `field` is the name under which a masked value is disclosed."""

    name: str
    kind: str
    text: str
    field: str = ""


def is_personal(name: str) -> bool:
    """Return whether a field of this name has a personal value."""
    return _MARKS.sub("", name.lower()) in _PERSONAL


def mask_body(parts: Sequence[BodyPart], disclosed: Collection[str]) -> list[MaskedPart]:
    """Mask the personal values of a body.

    Args:
        parts: Parts of the body.
        disclosed: Fields that the operator has requested.
    """
    inner = {part.path for part in parts[1:]}
    return [
        MaskedPart(part.path, tuple(_masked(part, inner - {part.path}, disclosed)))
        for part in parts
    ]


def _masked(
    part: BodyPart, inner: Collection[str], disclosed: Collection[str]
) -> Iterator[MaskedLine]:
    hidden: tuple[str, ...] | None = None
    for line in part.lines:
        path = line.path
        if TEXT in disclosed or _is_disclosed(part.path, path, disclosed):
            yield MaskedLine(line.text, line.note, line.column)
            continue
        if hidden is not None and len(path) > len(hidden) and path[: len(hidden)] == hidden:
            continue  # inside a value that is masked as a whole
        hidden = None
        name = ".".join(filter(None, (part.path, *path)))
        if path and name in inner:
            yield MaskedLine(_without_value(line, "(text below)"), line.note)
        elif path and is_personal(path[-1]) and not _is_null(line):
            hidden = path
            yield MaskedLine(_without_value(line, MASK), line.note, field=name, label=path[-1])
        else:
            yield _masked_text(line)


def _is_disclosed(part: str, path: Sequence[str], disclosed: Collection[str]) -> bool:
    """Return whether a value, or one that contains it, was requested."""
    names = (".".join(filter(None, (part, *path[:depth]))) for depth in range(1, len(path) + 1))
    return any(name in disclosed for name in names)


def _without_value(line: BodyLine, shown: str) -> str:
    """Return the line of a member with another text in place of its value."""
    indent = len(line.text) - len(line.text.lstrip())
    label = re.match(r'\s*"(?:[^"\\]|\\.)*": ', line.text)
    end = "," if line.text.endswith(",") else ""
    return f"{label[0] if label else ' ' * indent}{shown}{end}"


def _is_null(line: BodyLine) -> bool:
    return line.text.rstrip(",").endswith(": null")


def mask_text(text: str) -> str:
    """Return a text with its personal values masked, for logs and hints."""
    return _masked_text(BodyLine(text)).text


def _masked_text(line: BodyLine) -> MaskedLine:
    text, column = line.text, line.column
    spans = _spans(text)
    if not spans:
        return MaskedLine(text, line.note, column)
    shown, end = "", 0
    for start, stop in spans:
        shown += text[end:start] + MASK
        end = stop
    shifted = None if column is None else _shifted(column, spans)
    return MaskedLine(shown + text[end:], line.note, shifted, TEXT, "hidden text")


def _shifted(column: int, spans: Sequence[tuple[int, int]]) -> int:
    """Return the index of a character after the spans before it were replaced by masks."""
    shown = column
    for start, stop in spans:
        if column >= stop:
            shown += len(MASK) - (stop - start)
        elif column > start:
            shown -= column - start
    return shown


def _spans(text: str) -> list[tuple[int, int]]:
    """Return where personal values are in a text, without overlaps."""
    found = [match.span("value") for match in _NAMED.finditer(text)]
    found += [match.span() for match in _ADDRESS.finditer(text) if _is_address(match[0])]
    spans: list[tuple[int, int]] = []
    for start, stop in sorted(found):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(stop, spans[-1][1])
        else:
            spans.append((start, stop))
    return spans


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def mask_attributes(
    message: ReceivedMessage, disclosed: Collection[str]
) -> Iterator[MaskedAttribute]:
    """Yield the attributes of a dead letter but the two of this program.

    Args:
        message: The dead letter.
        disclosed: Fields that the operator has requested.
    """
    for name, value in message.attributes.items():
        if name in {ATTRIBUTE, REPLAYS_ATTRIBUTE}:
            continue
        kind, content = value["DataType"], _content(value)
        field = f"attribute {name}"
        if field in disclosed or not (is_personal(name) or _spans(content)):
            cut = "…" if len(content) > _ATTRIBUTE_MAX_CHARACTERS else ""
            yield MaskedAttribute(name, kind, f"{content[:_ATTRIBUTE_MAX_CHARACTERS]}{cut}")
        else:
            yield MaskedAttribute(name, kind, MASK, field)


def _content(value: dict[str, Any]) -> str:
    content = value.get("StringValue", value.get("BinaryValue", ""))
    return content.hex() if isinstance(content, bytes) else str(content)
