"""What the verbs print: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

_PIPE_WIDTH: Final = 240
_C1: Final = range(0x7F, 0xA0)
# What reorders or breaks a line without being a control character: marks, embeddings, overrides and
# isolates of bidirectional text, and the separators of lines and paragraphs.
_LAYOUT: Final = (
    0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)
)  # fmt: skip
# In JSON as everywhere else; half a surrogate pair has no UTF-8.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*_C1, *_LAYOUT, *range(0xD800, 0xE000))}
_CONTROLS: Final = {
    **_JSON_ESCAPES,
    **{code: f"\\x{code:02x}" for code in (*range(32), *_C1) if code != ord("\t")},
    ord("\n"): "\\n",
}


def stdout() -> Console:
    """Give the console for data; wide where it is no terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def stderr() -> Console:
    """Give the console for everything else."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object) -> Text:
    """Return text that others wrote as one line, its control characters escaped."""
    return Text(str(value).translate(_CONTROLS))


def print_json(data: Any) -> None:
    """Print one JSON document on stdout."""
    print(_json(data, indent=2))  # noqa: T201 - the verb's data


def print_json_line(data: Any) -> None:
    """Print one JSON object in a line on stdout."""
    print(_json(data))  # noqa: T201 - the verb's data


def print_line(text: str) -> None:
    """Print one line of data on stdout, for a program or a log."""
    print(plain(text).plain)  # noqa: T201 - the verb's data


def _json(data: Any, indent: int | None = None) -> str:
    # Outside of strings there are none of these; escaped they are the same JSON.
    text = json.dumps(data, indent=indent, ensure_ascii=False, default=_encode)
    return text.translate(_JSON_ESCAPES)


def _encode(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return bytes(value).hex()


def table(*columns: str, title: str | None = None) -> Table:
    """Start a table in the one style of all verbs."""
    made = Table(title=title, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def note(message: str, above: Progress | None = None) -> None:
    """Print one line on stderr, above the bar where there is one."""
    console = stderr() if above is None else above.console
    console.print(plain(message))


def progress(description: str) -> Progress:
    """Show progress on a terminal: done of all, rate and remaining time.

    Args:
        description: what is under way; `{task.description}` is that of the task, which may change.
    """
    console = stderr()
    return Progress(
        SpinnerColumn(),
        TextColumn(description),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def duration(seconds: float) -> str:
    """Write a duration for a person, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
