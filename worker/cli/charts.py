"""Charts as SVG or PNG files, the same bytes for the same figures."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from worker.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

ChartFile = Annotated[
    Path | None,
    typer.Option("--chart", metavar="FILE", help="Write a chart to FILE, .svg or .png."),
]
# Metadata that would differ between runs or versions of the library.
_METADATA: Final[Mapping[str, dict[str, Any]]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
}
_COLOURS: Final = ("#0b7a75", "#c8553d", "#7b6d8d")
_DASHES: Final = ("-", "--", ":")
_TEXT, _GRID, _PAPER = "#1f2933", "#d5dbe1", "#ffffff"
_SIZE_INCHES: Final = (8, 4.2)
_TICK_MONTHS: Final = 6
_DAYS_MIN: Final = 7
_DAY_TICKS_MAX: Final = 7
_LABEL_DISTANCE: Final = 0.05
_STYLE: Final[dict[Any, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _TEXT,
    "axes.labelcolor": _TEXT,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.dpi": 150,
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "savefig.facecolor": _PAPER,
    "svg.hashsalt": "aup-worker",
    "text.color": _TEXT,
    "text.parse_math": False,
    "xtick.color": _TEXT,
    "ytick.color": _TEXT,
}


@dataclass(frozen=True, slots=True)
class Months:
    """Months over months, from the first month on.

    Attributes:
        y_label: Label of the y axis, with its unit.
        series: Values by name, at most three.
    """

    title: str
    y_label: str
    series: Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Days:
    """One bar for each day.

    Attributes:
        y_label: Label of the y axis, with its unit.
        counts: Values by day.
    """

    title: str
    y_label: str
    counts: Mapping[date, int]


def chart_writer(file: Path | None) -> Callable[[Months | Days], None] | None:
    """Check a chart's file before any work is done for it, and return what writes the chart.

    Returns:
        A function that draws a chart and writes it; None without a file.

    Raises:
        UsageError: The suffix is neither .svg nor .png, the folder does not exist, or the extra is
            not installed. The returned function raises it if the file cannot be written.
    """
    if file is None:
        return None
    suffix = file.suffix.lower()
    if suffix not in _METADATA:
        raise UsageError(f"--chart {file}: unknown format; use a name that ends in .svg or .png")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--chart {file}: no such folder; create it first")
    if find_spec("matplotlib") is None:
        raise UsageError("--chart requires matplotlib: pip install 'aup-worker[charts]'")

    def write(chart: Months | Days) -> None:
        try:
            _draw(chart, file, suffix)
        except OSError as error:
            raise UsageError(f"--chart {file}: {error.strerror}") from None

    return write


def _draw(chart: Months | Days, file: Path, suffix: str) -> None:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it reports how it creates its cache
    import matplotlib as mpl  # noqa: PLC0415 - optional, slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    with mpl.rc_context(_STYLE), warnings.catch_warnings():
        # A title with letters that the font does not have shows boxes for them.
        warnings.filterwarnings("ignore", message="Glyph")
        figure = Figure(figsize=_SIZE_INCHES, layout="constrained")
        axes = figure.subplots()
        axes.set_title(chart.title)
        axes.grid(axis="y", color=_GRID)
        axes.set_ylabel(chart.y_label)
        axes.yaxis.set_major_formatter("{x:,.0f}")
        if isinstance(chart, Months):
            _months(axes, chart)
        else:
            _days(axes, chart)
        axes.set_ylim(bottom=0)
        metadata = {**_METADATA[suffix], "Title": chart.title}
        figure.savefig(file, format=suffix[1:], metadata=metadata)


def _months(axes: Axes, chart: Months) -> None:
    last = max(map(len, chart.series.values()))
    highest = max(values[-1] for values in chart.series.values())
    labelled: list[float] = []
    for (name, values), colour, dash in zip(chart.series.items(), _COLOURS, _DASHES, strict=False):
        axes.plot(range(1, len(values) + 1), values, dash, color=colour, linewidth=2.2, label=name)
        # A label would cover that of a line that ends close by.
        if all(abs(values[-1] - each) > _LABEL_DISTANCE * highest for each in labelled):
            labelled.append(values[-1])
            axes.annotate(
                f"{values[-1]:,.0f}", (len(values), values[-1]), xytext=(6, 0),
                textcoords="offset points", va="center", color=colour,
            )  # fmt: skip
    axes.set_xticks([1, *range(_TICK_MONTHS, last + 1, _TICK_MONTHS)])
    axes.set_xlabel("month")
    axes.legend(facecolor=_PAPER, edgecolor="none", framealpha=1)


def _days(axes: Axes, chart: Days) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter, DayLocator, date2num  # noqa: PLC0415
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415

    axes.set_xlabel("day (UTC)")
    if not chart.counts:
        axes.set_xticks([])
        axes.set_yticks([0])
        return
    days = date2num(list(chart.counts))  # type: ignore[no-untyped-call] # of the library
    axes.bar(days, list(chart.counts.values()), color=_COLOURS[0], width=0.85)
    axes.xaxis_date()
    # A few days would otherwise be very wide, with hours between them.
    shown = max(_DAYS_MIN, days[-1] - days[0] + 1)
    middle = (days[0] + days[-1]) / 2
    axes.set_xlim(middle - shown / 2, middle + shown / 2)
    few = shown == _DAYS_MIN
    locator = DayLocator() if few else AutoDateLocator(maxticks=_DAY_TICKS_MAX)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
