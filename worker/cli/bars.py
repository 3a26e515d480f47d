"""Bars and time series in one style, for every table that draws figures."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

BAR_COLUMNS: Final = 40
# Narrower than this a chart shows nothing that its number does not.
CHART_COLUMNS_MIN: Final = 8
BAR_STYLE: Final = "cyan"
_FULL: Final = "█"
_PARTS: Final = " ▏▎▍▌▋▊▉"
_PLAIN_BAR: Final = "#"
_LEVELS: Final = "▁▂▃▄▅▆▇█"
_PLAIN_LEVELS: Final = "_.:-=+*#"
_LINE: Final = "─"
_PLAIN_LINE: Final = "-"


class Chart(ABC):
    """One line of a chart that takes the width that is available, up to a maximum.

    Attributes:
        most_columns: Maximum width; None for all that is available.
        style: Style of the drawing.
    """

    most_columns: int | None = None
    style: str = BAR_STYLE

    @abstractmethod
    def text(self, columns: int, *, ascii_only: bool = False) -> str:
        """Return the chart.

        Args:
            columns: Maximum width.
            ascii_only: Whether to draw with ASCII characters only.
        """

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = min(options.max_width, self.most_columns or options.max_width)
        yield Text(self.text(width, ascii_only=options.ascii_only), self.style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        most = min(options.max_width, self.most_columns or options.max_width)
        return Measurement(min(CHART_COLUMNS_MIN, most), most)


class Bar(Chart):
    """A horizontal bar; any value above zero is visible.

    Args:
        value: Value to draw.
        highest: Value of a bar of full width.
        columns: Width of such a bar.
        style: Style of the bar.
    """

    def __init__(
        self, value: float, highest: float, *, columns: int = BAR_COLUMNS, style: str = BAR_STYLE
    ) -> None:
        self._share = min(max(value / highest, 0.0), 1.0) if highest > 0 else 0.0
        self.most_columns = columns
        self.style = style

    def text(self, columns: int, *, ascii_only: bool = False) -> str:
        """Return the bar."""
        if ascii_only:
            return _PLAIN_BAR * math.ceil(self._share * columns)
        full, part = divmod(math.ceil(self._share * columns * len(_PARTS)), len(_PARTS))
        return _FULL * full + (_PARTS[part] if part else "")


class Sparkline(Chart):
    """The latest values as bars side by side; a line if all of them have the same height.

    The highest value has full height, zero the lowest; an unknown value leaves a gap.

    Args:
        values: Oldest first; None if unknown.
        style: Style of the bars.
    """

    def __init__(self, values: Sequence[float | None], *, style: str = BAR_STYLE) -> None:
        self._values = list(values)
        self.style = style

    def text(self, columns: int, *, ascii_only: bool = False) -> str:
        """Return the bars, or a line."""
        shown = self._values[-columns:]
        bars = _PLAIN_LEVELS if ascii_only else _LEVELS
        highest = max((abs(each) for each in shown if each is not None), default=0) or 1
        levels = [
            None if each is None else math.ceil(abs(each) / highest * (len(bars) - 1))
            for each in shown
        ]
        if len({*levels} - {None}) == 1:
            bars = (_PLAIN_LINE if ascii_only else _LINE) * len(bars)
        return "".join(" " if each is None else bars[each] for each in levels)
