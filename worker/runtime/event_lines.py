"""Log events as short lines for a person at a terminal."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator, MutableMapping
from typing import Any, Final

import structlog

# All fields of the others are needed.
_FIELDS: Final = {
    "started": ("queue", "user_table"),
    "drain started": ("held",),
    "stopped": ("received", "recorded", "duplicates", "dead_lettered", "returned", "abandoned"),
}
_UNLESS_ZERO: Final = {"returned", "abandoned"}
_STYLES: Final = {"warning": "33", "error": "31", "critical": "31"}
_WIDTH: Final = 80


def event_line(_: object, __: str, fields: MutableMapping[str, Any]) -> str:
    """Render an event as structlog's last processor: time, event and the fields that matter.

    Raises:
        structlog.DropEvent: The event is a summary, which the live line replaces.
    """
    event, level = str(fields.pop("event", "")), str(fields.pop("level", ""))
    if event == "summary":
        raise structlog.DropEvent
    at, exception = fields.pop("timestamp", ""), fields.pop("exception", "")
    process = f"process {fields.pop('process')}: " if "process" in fields else ""
    name = f"{level}: " if level in _STYLES else ""
    shown = " ".join(_shown(event, fields))
    text = f"{at} {process}{name}{event}{': ' if shown else ''}{shown}"
    wrapped = textwrap.fill(
        text,
        terminal_columns(),
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return paint(wrapped, _STYLES.get(level, "")) + (f"\n{exception}" if exception else "")


def _shown(event: str, fields: MutableMapping[str, Any]) -> Iterator[str]:
    for name in _FIELDS.get(event, fields):
        value = fields.get(name)
        if value is None or value == "" or (not value and name in _UNLESS_ZERO):
            continue
        text = str(value)
        if name in {"queue", "dead_letter_queue"}:
            text = text.rpartition("/")[2]
        yield f"{name}={text if text.isprintable() else repr(text)}"


def paint(text: str, style: str) -> str:
    """Return text in a style, unless NO_COLOR is set.

    Args:
        text: What to show.
        style: Parameters of the SGR control sequence; empty for none.
    """
    if not style or os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{style}m{text}\x1b[0m"


def terminal_columns() -> int:
    """Return the width of the terminal on stderr."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or _WIDTH
    except (OSError, ValueError):
        return _WIDTH


def is_terminal() -> bool:
    """Return whether stderr is a terminal that can erase a line."""
    return sys.stderr.isatty() and os.environ.get("TERM", "") not in {"dumb", "unknown"}
