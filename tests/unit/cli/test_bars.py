"""Bars and sparklines: scale, width, flat series and ASCII."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from worker.cli.bars import Bar, Chart, Sparkline


@pytest.mark.parametrize(
    ("value", "highest", "columns", "text"),
    [
        (10, 10, 4, "████"),
        (5, 10, 4, "██"),
        (5, 10, 3, "█▌"),
        (1, 1000, 10, "▏"),
        (0, 10, 4, ""),
        (0, 0, 4, ""),
        (20, 10, 4, "████"),
        (-1, 10, 4, ""),
    ],
)
def test_bar_is_proportional_and_any_value_above_zero_is_visible(
    value: float, highest: float, columns: int, text: str
) -> None:
    assert Bar(value, highest).text(columns) == text


def test_bar_is_ascii_if_the_encoding_is() -> None:
    assert Bar(1, 1000).text(10, ascii_only=True) == "#"
    assert Bar(500, 1000).text(10, ascii_only=True) == "#####"


@pytest.mark.parametrize(
    ("values", "columns", "text"),
    [
        ([], 10, ""),
        ([0, 1, 1000], 10, "▁▂█"),
        ([7, 1, 2, 4], 2, "▅█"),
        ([None, 4, None, 8], 10, " ▅ █"),
        ([-8, 4], 10, "█▅"),
        ([None], 10, " "),
    ],
)
def test_sparkline_scales_to_the_highest_value_and_the_available_width(
    values: list[float | None], columns: int, text: str
) -> None:
    assert Sparkline(values).text(columns) == text


@pytest.mark.parametrize("value", [0, 7, 1000.5, -3])
def test_series_that_does_not_change_is_a_line(value: float) -> None:
    assert Sparkline([value, value, None, value]).text(10) == "── ─"
    assert Sparkline([value, value]).text(10, ascii_only=True) == "--"


def test_series_that_hardly_changes_is_a_line() -> None:
    assert Sparkline([37, 39, 38, 39]).text(10) == "────"
    assert Sparkline([30, 39, 38, 39]).text(10) == "▇███"


@pytest.mark.parametrize(
    ("chart", "widths"),
    [(Bar(9, 9, columns=40), {20: 20, 200: 40}), (Sparkline([1, 2] * 150), {20: 20, 200: 200})],
)
def test_chart_takes_the_available_width_up_to_its_maximum(
    chart: Chart, widths: dict[int, int]
) -> None:
    for width, expected in widths.items():
        stream = io.StringIO()
        Console(file=stream, width=width).print(chart)
        assert len(stream.getvalue().rstrip("\n")) == expected
