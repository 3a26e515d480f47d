"""Tables that fit the terminal: no value is broken, and columns are left out by priority."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final, Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from worker.cli.bars import CHART_COLUMNS_MIN, Chart

ANY_WIDTH: Final = 10_000_000
_GAP: Final = 2
_INDENT: Final = 2
# As much of a hash as identifies it, as in the log of git.
_HASH_CHARACTERS: Final = 12
_TEXT_CHARACTERS_MIN: Final = 16
# In a narrower column, sentences are hard to read.
_PROSE_CHARACTERS_MIN: Final = 30


class Kind(Enum):
    """What may become of the values of a column in a table that is too wide.

    Attributes:
        VALUE: Nothing: ids, times and numbers are shown in full, or the column is left out.
        HASH: Shortened to its first 12 characters.
        TEXT: Cut, with an ellipsis.
        PROSE: Broken between words; on lines below the row if the column is narrow or a word does
            not fit it.
        BELOW: On a line below the row, cut with an ellipsis.
    """

    VALUE = auto()
    HASH = auto()
    TEXT = auto()
    PROSE = auto()
    BELOW = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        name: Heading.
        priority: 0 for a column that is always shown. Of the others, those with the highest number
            are left out first.
        kind: What may become of its values.
        right: Whether to align right, for numbers.
    """

    name: str
    priority: int = 0
    kind: Kind = Kind.VALUE
    right: bool = False


class _Layout(NamedTuple):
    """Widths of the columns beside each other, and the columns below, by index."""

    widths: dict[int, int]
    below: list[int]


class _Row(NamedTuple):
    cells: Sequence[Text | Chart]
    style: str = ""
    is_heading: bool = False


class Table:
    """A table in the common style of all verbs; without a header if all names are blank.

    On a screen that is too narrow, hashes are shortened and texts cut, and then columns are left
    out by priority. Only the columns that are always shown are cut, if even they do not fit.

    Args:
        columns: The columns.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = columns
        self._rows: list[_Row] = []

    @property
    def has_header(self) -> bool:
        """Whether a column has a name."""
        return any(each.name.strip() for each in self.columns)

    def add_row(self, *cells: Text | Chart, style: str = "") -> None:
        """Add a row; missing cells are empty."""
        self._rows.append(_Row([_without_tabs(cell) for cell in cells], style))

    def add_heading(self, text: Text) -> None:
        """Add a line that has no columns, above the rows that follow."""
        self._rows.append(_Row([text], is_heading=True))

    def hidden(self, width: int) -> list[str]:
        """Return the names of the columns that are left out at a width without being empty."""
        layout = self._layout(width)
        left_out = set(range(len(self.columns))) - {*layout.widths, *layout.below}
        return [self.columns[index].name for index in sorted(left_out - self._empty())]

    def lines(self, console: Console, options: ConsoleOptions) -> Iterator[list[Text]]:
        """Yield the lines of the header, if there is one, and of each row."""
        layout = self._layout(options.max_width)
        if self.has_header:
            names = _Row([Text(each.name) for each in self.columns], "bold")
            yield list(self._beside(names, layout, console, options))[:1]
        for row in self._rows:
            if row.is_heading:
                yield [_cut(row.cells[0], options.max_width)]
            else:
                beside = self._beside(row, layout, console, options)
                yield [*beside, *self._below(row, layout, console, options)]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for lines in self.lines(console, options):
            yield from lines

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        widths = self._layout(ANY_WIDTH).widths.values()
        return Measurement(1, min(options.max_width, _total(widths)))

    def _layout(self, width: int) -> _Layout:
        """Return how the columns fit a width."""
        full = [self._full_width(index) for index in range(len(self.columns))]
        if _total(full) <= width:
            return _Layout(dict(enumerate(full)), [])
        below = [index for index, each in enumerate(self.columns) if each.kind is Kind.BELOW]
        least = [self._least_width(index, full[index]) for index in range(len(full))]
        shown = sorted(set(range(len(full))) - {*below, *self._empty()})
        while _total(least[index] for index in shown) > width and len(shown) > 1:
            prose = [index for index in shown[1:] if self.columns[index].kind is Kind.PROSE]
            priority, last = max((self.columns[index].priority, index) for index in shown)
            if prose:
                below.append(prose[-1])
                shown.remove(prose[-1])
            elif priority:
                shown.remove(last)
            else:
                break
        widths = {index: least[index] for index in shown}
        self._widen(widths, full, width)
        while (excess := _total(widths.values()) - width) > 0 and max(widths.values()) > 1:
            second, widest = ([1, *sorted(widths.values())])[-2:]
            index = next(index for index, each in widths.items() if each == widest)
            widths[index] -= min(excess, max(widest - second, 1))
        return _Layout(widths, sorted(below))

    def _widen(self, widths: dict[int, int], full: Sequence[int], width: int) -> None:
        """Use the space that is left for texts, then hashes, then charts."""
        left = width - _total(widths.values())
        by_use = sorted(widths, key=lambda i: (self._has_chart(i), self._is_hash(i)))
        for index in by_use:
            more = min(full[index] - widths[index], left)
            if more > 0 and (not self._is_hash(index) or widths[index] + more == full[index]):
                widths[index] += more
                left -= more

    def _empty(self) -> set[int]:
        """Return the columns without values, which a table that is too wide does without."""
        return {
            index
            for index, column in enumerate(self.columns)
            if column.priority and not any(self._cells(index))
        }

    def _is_hash(self, index: int) -> bool:
        return self.columns[index].kind is Kind.HASH

    def _has_chart(self, index: int) -> bool:
        return any(isinstance(each, Chart) for each in self._cells(index))

    def _cells(self, index: int) -> Iterator[Text | Chart]:
        for row in self._rows:
            if not row.is_heading and index < len(row.cells):
                yield row.cells[index]

    def _full_width(self, index: int) -> int:
        widths = [cell_len(self.columns[index].name)]
        for cell in self._cells(index):
            if isinstance(cell, Text):
                widths += (cell_len(each) for each in cell.plain.splitlines())
            else:
                widths.append(cell.most_columns or ANY_WIDTH)
        return max(widths)

    def _least_width(self, index: int, full: int) -> int:
        """Return the width below which a column is left out rather than narrowed."""
        name = cell_len(self.columns[index].name)
        least = full
        match self.columns[index].kind:
            case _ if self._has_chart(index):
                least = CHART_COLUMNS_MIN
            case Kind.HASH:
                least = _HASH_CHARACTERS
            case Kind.TEXT:
                least = _TEXT_CHARACTERS_MIN
            case Kind.PROSE:
                least = _PROSE_CHARACTERS_MIN
        return min(full, max(name, least))

    def _beside(
        self, row: _Row, layout: _Layout, console: Console, options: ConsoleOptions
    ) -> Iterator[Text]:
        """Yield the lines of the cells that are beside each other."""
        cells = [
            self._shown(row, index, width, console, options)
            for index, width in layout.widths.items()
        ]
        for number in range(max(map(len, cells), default=0)):
            line = Text(style=row.style, no_wrap=True)
            for lines, (index, width) in zip(cells, layout.widths.items(), strict=True):
                cell = lines[number] if number < len(lines) else Text()
                padding = Text(" " * (width - cell.cell_len))
                is_right = self.columns[index].right
                line.append_text(padding + cell if is_right else cell + padding)
                line.append(" " * _GAP)
            line.rstrip()
            yield line

    def _shown(
        self, row: _Row, index: int, width: int, console: Console, options: ConsoleOptions
    ) -> list[Text]:
        """Return the lines of a cell beside others; none if it is printed below them."""
        cell = row.cells[index] if index < len(row.cells) else Text()
        if isinstance(cell, Chart):
            most = min(width, cell.most_columns or width)
            return [Text(cell.text(most, ascii_only=options.ascii_only), cell.style)]
        kind = self.columns[index].kind
        if kind is Kind.PROSE:
            return [] if _is_too_long(cell, width) else list(cell.wrap(console, width))
        return [_cut(cell, width, "crop" if kind is Kind.HASH else "ellipsis")]

    def _below(
        self, row: _Row, layout: _Layout, console: Console, options: ConsoleOptions
    ) -> Iterator[Text]:
        """Yield the lines of the cells that are below the others."""
        width = max(options.max_width - _INDENT, 1)
        for index, cell in enumerate(row.cells):
            is_prose = self.columns[index].kind is Kind.PROSE
            beside = layout.widths.get(index)
            if isinstance(cell, Chart) or not cell.plain or (beside and not is_prose):
                continue
            if index in layout.below or (beside and _is_too_long(cell, beside)):
                lines = (
                    cell.wrap(console, width, overflow="fold") if is_prose else [_cut(cell, width)]
                )
                indent = Text(" " * _INDENT, style="" if is_prose else "dim", no_wrap=True)
                for line in lines:
                    line.rstrip()
                    yield indent + line


def _is_too_long(cell: Text, width: int) -> bool:
    """Return whether a word of a text does not fit."""
    return any(cell_len(word) > width for word in cell.plain.split())


def _without_tabs(cell: Text | Chart) -> Text | Chart:
    if isinstance(cell, Text) and "\t" in cell.plain:
        cell = cell.copy()
        cell.expand_tabs(1)
    return cell


def _cut(
    cell: Text | Chart, width: int, overflow: Literal["crop", "ellipsis"] = "ellipsis"
) -> Text:
    assert isinstance(cell, Text)  # noqa: S101 - charts are drawn in their width
    cut = cell.copy()
    cut.truncate(width, overflow=overflow)
    return cut


def _total(widths: Iterable[int]) -> int:
    """Return the width of columns with the gaps between them."""
    each = list(widths)
    return sum(each) + _GAP * max(len(each) - 1, 0)
