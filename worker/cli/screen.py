"""Output of the verbs: data on stdout, everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
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
_TABLE_MIN_COLUMNS: Final = 150
_ANY_WIDTH: Final = 10_000
# Shown on a terminal of any height.
_RECORDS_MIN: Final = 5
# Two headings, a total, a blank line, two notes and the prompt.
_OTHER_LINES: Final = 7
_LINES_SHOWN_MAX: Final = 20
_C1: Final = range(0x7F, 0xA0)
# Characters that reorder or break a line although they are not control characters: bidirectional
# marks, embeddings, overrides and isolates, and line and paragraph separators.
_LAYOUT: Final = (
    0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)
)  # fmt: skip
# Escaped in JSON, too. A lone surrogate cannot be encoded as UTF-8.
_JSON_ESCAPES: Final = {code: f"\\u{code:04x}" for code in (*_C1, *_LAYOUT, *range(0xD800, 0xE000))}
_CONTROLS: Final = {
    **_JSON_ESCAPES,
    **{code: f"\\x{code:02x}" for code in (*range(32), *_C1) if code != ord("\t")},
    ord("\n"): "\\n",
}


def stdout() -> Console:
    """Return the console for data; wide if stdout is not a terminal, so that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, highlight=False)


def stderr() -> Console:
    """Return the console for everything except data."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def plain(value: object, style: str = "") -> Text:
    """Return untrusted text as one line with control characters escaped."""
    return Text(str(value).translate(_CONTROLS), style)


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
    return text.translate(_JSON_ESCAPES)


def _encode(value: Any) -> Any:
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return bytes(value).hex()


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[RenderableType]] = (),
    *,
    right: Container[int] = (),
) -> Table:
    """Return a table in the common style of all verbs; without a header if all names are blank.

    Args:
        columns: Names of the columns.
        rows: Cells of each row. A string is untrusted text, see `plain`.
        right: Indexes of the columns to align right, for numbers.
    """
    has_names = any(name.strip() for name in columns)
    created = Table(box=None, pad_edge=False, header_style="bold", show_header=has_names)
    for index, name in enumerate(columns):
        if index in right:
            created.add_column(name, justify="right", no_wrap=True)
        else:
            created.add_column(name, overflow="fold")
    for row in rows:
        created.add_row(*(plain(cell) if isinstance(cell, str) else cell for cell in row))
    return created


def print_rows(
    out: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    details: Mapping[str, str],
) -> None:
    """Print a table, or on a terminal that is too narrow for it the details on further lines.

    Args:
        out: Console for data.
        columns: Names of the columns.
        rows: Cells of each row, untrusted text.
        details: Columns to print below the others, and the text to print before each of them.
    """
    created = table(columns, rows)
    width = out.measure(created, options=out.options.update(width=_ANY_WIDTH)).maximum
    if not sys.stdout.isatty() or width <= out.width:
        out.print(created)
        return
    main = [name for name in columns if name not in details]
    records: list[dict[str, Text]] = []
    for row in rows:
        cells = dict(zip(columns, row, strict=True))
        below = "  ".join(f"{label}{cells[name]}" for name, label in details.items() if cells[name])
        records.append({name: plain(cells[name]) for name in main} | {"": plain(below)})
    _print_narrow(out, records, main, [""], sys.maxsize)


def print_paragraph(text: str) -> None:
    """Print text to stderr, broken between words."""
    stderr().print(plain(text), soft_wrap=False)


def lines_left(out: Console, printed: int) -> int:
    """Return how many lines fit on the screen below printed rows; a pipe has no limit."""
    return out.height - printed - _OTHER_LINES if sys.stdout.isatty() else sys.maxsize


def print_records(
    out: Console,
    records: Sequence[Mapping[str, str | Text]],
    main: Sequence[str],
    details: Sequence[str],
    lines: int,
) -> int:
    """Print records as a table, or on a narrow terminal with their details on lines of their own.

    Args:
        out: Console for data.
        records: Cells by name of the column; all records have the same columns.
        main: Columns of the first line on a narrow terminal; the first one is an id. Those that do
            not fit are printed below it.
        details: The other columns, which are printed below the first line.
        lines: Maximum number of lines; five records are printed anyway.

    Returns:
        The number of records printed.
    """
    if out.width < _TABLE_MIN_COLUMNS:
        cells = [
            {name: cell if isinstance(cell, Text) else plain(cell) for name, cell in each.items()}
            for each in records
        ]
        return _print_narrow(out, cells, main, details, lines)
    shown = records[: max(lines, _RECORDS_MIN)]
    created = table(list(records[0]), [list(each.values()) for each in shown])
    created.columns[0].no_wrap = True
    out.print(created)
    return len(shown)


def _print_narrow(
    out: Console,
    records: Sequence[Mapping[str, Text]],
    main: Sequence[str],
    details: Sequence[str],
    lines: int,
) -> int:
    widths: dict[str, int] = {}
    for name in main:
        width = max(len(name), *(each[name].cell_len for each in records))
        if widths and sum(widths.values()) + 2 * len(widths) + width > out.width:
            break
        widths[name] = width
    below = [(name, f"{name} ") for name in main if name not in widths]
    below += [(name, "") for name in details]
    out.print(_padded({name: Text(name, style="bold") for name in widths}, widths))
    for count, each in enumerate(records):
        texts = (Text(label) + (each[name] or Text("-")) for name, label in below)
        indented = Padding(Text("  ").join(texts), (0, 0, 0, 2), style="dim", expand=False)
        record = Group(_padded(each, widths), indented)
        lines -= len(out.render_lines(record, pad=False))
        if lines < 0 and count >= _RECORDS_MIN:
            return count
        out.print(record)
    return len(records)


def _padded(cells: Mapping[str, Text], widths: Mapping[str, int]) -> Text:
    padded = [cells[name].copy() for name in widths]
    for cell, width in zip(padded, widths.values(), strict=True):
        cell.pad_right(width - cell.cell_len)
    return Text("  ").join(padded)


def note(message: str, above: Progress | None = None) -> None:
    """Print one line to stderr, above the progress bar if there is one."""
    console = stderr() if above is None else above.console
    console.print(plain(message))


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


def counted(count: int, noun: str = "dead letter") -> str:
    """Return a number of things as text."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Return a duration as text in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if abs(seconds) >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
