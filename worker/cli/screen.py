"""Output of the verbs: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager
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
from rich.text import Text

from worker.cli.bars import Chart
from worker.cli.tables import ANY_WIDTH, Column, Kind, Table
from worker.runtime import visible_text

# Shown on a terminal of any height.
_ROWS_MIN: Final = 5
# Two headings, a total, a blank line, two notes and the prompt.
_OTHER_LINES: Final = 7
_LINES_SHOWN_MAX: Final = 20
Cell = str | Text | Chart


def stdout() -> Console:
    """Return the console for data; wide if stdout is not a terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else ANY_WIDTH, highlight=False)


def stderr() -> Console:
    """Return the console for everything except data."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object, style: str = "") -> Text:
    """Return untrusted text as one line with control characters escaped."""
    return Text(visible_text.one_line(str(value)), style)


def print_json(data: Any) -> None:
    """Print a JSON document to stdout."""
    print(_json(data, indent=2))  # noqa: T201 - output of the verb


def print_json_line(data: Any) -> None:
    """Print a JSON object on one line to stdout."""
    print(_json(data))  # noqa: T201 - output of the verb


def print_line(text: str) -> None:
    """Print one line of data to stdout, for a program or a log."""
    print(plain(text).plain)  # noqa: T201 - output of the verb


def _json(data: Any, indent: int | None = None) -> str:
    # These characters occur only inside strings, where escaping keeps the JSON value unchanged.
    text = json.dumps(data, indent=indent, ensure_ascii=False, default=_encode)
    return visible_text.in_json(text)


def _encode(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return bytes(value).hex()


def print_paragraph(text: str) -> None:
    """Print text to stderr, broken between words."""
    stderr().print(plain(text), soft_wrap=False)


def lines_left(out: Console, printed: int) -> int:
    """Return how many lines fit on the screen below printed rows; a pipe has no limit."""
    return out.height - printed - _OTHER_LINES if sys.stdout.isatty() else sys.maxsize


def print_rows(out: Console, table: Table, lines: int = sys.maxsize) -> int:
    """Print a table, and on a terminal which columns are left out.

    Args:
        out: Console for data.
        table: Table to print.
        lines: Maximum number of lines of rows; five rows are printed anyway.

    Returns:
        The number of rows printed.
    """
    count = -1 if table.has_header else 0
    shown: list[Text] = []
    for printed in table.lines(out, out.options):
        lines -= len(printed) if count >= 0 else 0
        if lines < 0 and count >= _ROWS_MIN:
            break
        shown += printed
        count += 1
    if shown:
        out.print(*shown, sep="\n", no_wrap=True)
    if hidden := table.hidden(out.width):
        note(f"not shown in {out.width} columns: {', '.join(hidden)}; --json shows all")
    return count


def note(message: str, above: Progress | None = None) -> None:
    """Print a sentence to stderr, above the progress bar if there is one; one line in a pipe."""
    console = stderr() if above is None else above.console
    text = plain(message).plain
    if console.is_terminal:
        # Words longer than the terminal, such as URLs, stay whole, so that they can be copied.
        text = textwrap.fill(text, console.width, break_long_words=False, break_on_hyphens=False)
    console.print(Text(text))


def note_first(lines: Sequence[object], count: int | None = None) -> None:
    """Print the first lines of many to stderr, and how many more there are.

    Args:
        lines: Lines to print.
        count: Number of all lines, if more than are given.
    """
    shown = lines[:_LINES_SHOWN_MAX]
    for line in shown:
        note(str(line))
    more = (len(lines) if count is None else count) - len(shown)
    if more > 0:
        note(f"… and {more} more")


def progress(description: str) -> Progress:
    """Return a progress bar with count, rate and remaining time; hidden without a terminal.

    Args:
        description: Label; use `{task.description}` to show the description of the task.
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


@contextmanager
def counting(description: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a progress bar inside the block.

    Yields:
        A function of the number done and the number of all, None if that is unknown.
    """
    with progress(description) as bar:
        task = bar.add_task(description, total=None, rate="")
        yield lambda done, total: bar.update(task, completed=done, total=total)


def table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Cell]] = (),
    *,
    right: Container[int] = (),
) -> Table:
    """Return a table.

    Args:
        columns: Columns, or names of columns that are always shown.
        rows: Cells of each row. A string is untrusted text, see `plain`.
        right: Indexes of the named columns to align right, for numbers.
    """
    created = Table(
        [
            Column(each, right=index in right) if isinstance(each, str) else each
            for index, each in enumerate(columns)
        ]
    )
    for row in rows:
        created.add_row(*map(_text, row))
    return created


def facts(rows: Iterable[tuple[str, Cell]]) -> Table:
    """Return a table of names and values, without a header; texts are broken between words."""
    return table((Column(""), Column("", kind=Kind.PROSE)), rows)


def _text(cell: str | Text | Chart) -> Text | Chart:
    return plain(cell) if isinstance(cell, str) else cell
