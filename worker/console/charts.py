"""Charts as SVG, rendered on the server; colours come from the style sheet by class."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup

from worker.console.bars import Bars
from worker.errors import Reason

_WIDTH: Final = 120
_HEIGHT: Final = 28
_PAD: Final = 2
_SERIES_MAX: Final = 3
OTHER: Final = "other"
ACCEPTED: Final = "accepted"
_COLOURED: Final = frozenset((*Reason, "unexplained", ACCEPTED))
_CHART_WIDTH: Final = 640
_CHART_HEIGHT: Final = 200
_LEFT, _TOP, _BOTTOM = 52, 10, 40
_GAP: Final = 2
_LABELS_MAX: Final = 6


def colour(name: str) -> str:
    """Return the class of a series; a reason has the same one on every page."""
    return f"series-{name}" if name in _COLOURED else "series-other"


def sparkline(values: Sequence[float | None], title: str) -> Markup:
    """Return the latest values as a line; an unknown value leaves a gap.

    Args:
        values: Oldest first; None if unknown.
        title: What the values are, with their unit.
    """
    known = [each for each in values if each is not None]
    if not known:
        return Markup("")
    low, high = min(*known, 0), max(*known, 0)
    span = (high - low) or 1
    step = (_WIDTH - 2 * _PAD) / max(1, len(values) - 1)

    def point(index: int, value: float) -> str:
        y = _HEIGHT - _PAD - (value - low) / span * (_HEIGHT - 2 * _PAD)
        return f"{_PAD + index * step:.1f},{y:.1f}"

    baseline = point(0, 0.0).partition(",")[2]
    drawn = []
    for is_known, run in itertools.groupby(enumerate(values), lambda each: each[1] is not None):
        if is_known:
            points = [point(index, value) for index, value in run if value is not None]
            # A single point has no length; the round cap of a second one makes it visible.
            points = points if len(points) > 1 else points * 2
            first, last = points[0].partition(",")[0], points[-1].partition(",")[0]
            drawn.append(
                Markup('<path d="M{0},{1}L{2}L{3},{1}z"/><polyline points="{4}"/>').format(
                    first, baseline, "L".join(points), last, " ".join(points)
                )
            )
    lines = Markup("").join(drawn)
    return Markup(
        '<svg class="sparkline" viewBox="0 0 {w} {h}" role="img" preserveAspectRatio="none">'
        "<title>{title}</title><desc>{desc}</desc>{lines}</svg>"
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        title=title,
        desc=f"From {known[0]:,.1f} to {known[-1]:,.1f}; lowest {min(known):,.1f}, "
        f"highest {max(known):,.1f}.",
        lines=lines,
    )


def at_most_three(series: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
    """Return the three largest series, and the sum of all others as `other`."""
    ordered = sorted(series, key=lambda name: (-sum(series[name]), name))
    if len(ordered) <= _SERIES_MAX:
        return {name: list(series[name]) for name in ordered}
    kept = {name: list(series[name]) for name in ordered[:_SERIES_MAX]}
    others = [series[name] for name in ordered[_SERIES_MAX:]]
    return {**kept, OTHER: [sum(each) for each in zip(*others, strict=True)]}


def legend(series: Mapping[str, Sequence[int]]) -> Markup:
    """Return the names and sums of the series, each with its colour."""
    return Markup('<ul class="legend">{}</ul>').format(
        Markup("").join(
            Markup('<li><span class="swatch {}"></span>{} <b>{:,}</b></li>').format(
                colour(name), name, sum(values)
            )
            for name, values in at_most_three(series).items()
        )
    )


def stacked_bars(bars: Bars, title: str, *, x_label: str, y_label: str) -> Markup:
    """Return a chart with one bar per label, each stacked of at most three series and the rest.

    Args:
        bars: Labels and values.
        title: Title for screen readers.
        x_label: Label of the horizontal axis, with its unit.
        y_label: Label of the vertical axis, with its unit.
    """
    series = at_most_three(bars.series)
    totals = [sum(each) for each in zip(*series.values(), strict=True)] or [0]
    top = _round_up(max(totals))
    parts = [_grid(top), _bars(bars.labels, series, top), _ticks(bars.labels)]
    return Markup(
        '<svg class="chart" viewBox="0 0 {w} {h}" role="img"><title>{title}</title>'
        '<desc>{desc}</desc>{parts}<text class="axis" x="{middle}" y="{below}" '
        'text-anchor="middle">{x_label}</text><text class="axis y" text-anchor="middle" '
        'transform="translate(11 {centre}) rotate(-90)">{y_label}</text></svg>'
    ).format(
        w=_CHART_WIDTH,
        h=_CHART_HEIGHT,
        title=title,
        desc=_description(series, totals, bars.labels),
        parts=Markup("").join(parts),
        middle=(_LEFT + _CHART_WIDTH) // 2,
        below=_CHART_HEIGHT - 4,
        centre=(_TOP + _CHART_HEIGHT - _BOTTOM) // 2,
        x_label=x_label,
        y_label=y_label,
    )


def _description(
    series: Mapping[str, Sequence[int]], totals: Sequence[int], labels: Sequence[str]
) -> str:
    sums = ", ".join(f"{name} {sum(values):,}" for name, values in series.items())
    if not labels:
        return "No data."
    highest = max(range(len(totals)), key=totals.__getitem__)
    return f"{sums}; from {labels[0]} to {labels[-1]}, most at {labels[highest]}."


def _round_up(value: int) -> int:
    """Return the next number of one digit and zeros, for the top of an axis."""
    power: int = 10 ** max(0, len(str(max(1, value))) - 1)
    return next(step * power for step in (1, 2, 3, 4, 5, 6, 8, 10) if step * power >= value)


def _y(value: float, top: int) -> float:
    height = _CHART_HEIGHT - _TOP - _BOTTOM
    return round(_CHART_HEIGHT - _BOTTOM - value / top * height, 1)


def _grid(top: int) -> Markup:
    marks = (0, top // 2, top) if top > 1 else (0, top)
    return Markup("").join(
        Markup(
            '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
            '<text class="tick" x="{}" y="{}" text-anchor="end">{:,}</text>'
        ).format(
            _LEFT, _CHART_WIDTH, _y(mark, top), _y(mark, top), _LEFT - 6, _y(mark, top) + 4, mark
        )
        for mark in marks
    )


def _slot(count: int) -> float:
    return (_CHART_WIDTH - _LEFT) / max(1, count)


def _bars(labels: Sequence[str], series: Mapping[str, Sequence[int]], top: int) -> Markup:
    slot = _slot(len(labels))
    width = min(48.0, max(1.0, slot - max(_GAP, slot * 0.25)))
    drawn = []
    for index, label in enumerate(labels):
        below = 0
        parts = []
        for name, values in series.items():
            if values[index]:
                above = below + values[index]
                parts.append(
                    Markup(
                        '<rect class="{}" x="{:.1f}" y="{}" width="{:.1f}" height="{}"/>'
                    ).format(
                        colour(name),
                        _LEFT + index * slot + (slot - width) / 2,
                        _y(above, top),
                        width,
                        round(_y(below, top) - _y(above, top), 1),
                    )
                )
                below = above
        counts = ", ".join(f"{name} {values[index]:,}" for name, values in series.items())
        drawn.append(
            Markup("<g><title>{}: {}</title>{}</g>").format(label, counts, Markup("").join(parts))
        )
    return Markup("").join(drawn)


def _ticks(labels: Sequence[str]) -> Markup:
    slot = _slot(len(labels))
    every = -(-len(labels) // _LABELS_MAX) or 1
    ticks = [
        # The style sheet hides every second one on a narrow screen.
        Markup('<text class="tick x{}" x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
            " minor" if number % 2 else "",
            _LEFT + (index + 0.5) * slot,
            _CHART_HEIGHT - _BOTTOM + 15,
            labels[index],
        )
        for number, index in enumerate(range(0, len(labels), every))
    ]
    return Markup("").join(ticks)
