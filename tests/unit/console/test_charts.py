"""Charts tell the same to eyes and screen readers, with few series and bars that do not touch."""

from __future__ import annotations

import itertools
import re
from datetime import timedelta
from xml.etree import ElementTree as ET

import pytest

from tests.simulation.virtual_clock import START as NOW
from worker.console.bars import Bars
from worker.console.charts import at_most_three, colour, legend, sparkline, stacked_bars
from worker.console.timeline import timeline
from worker.errors import Reason

_BARS = Bars(
    ["10:00", "10:01"],
    {"invalid": [1, 5], "malformed": [2, 0], "conflict": [1, 1], "exhausted": [1, 0]},
)


def _parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)  # noqa: S314 - our own


def _chart(bars: Bars = _BARS) -> ET.Element:
    return _parsed(stacked_bars(bars, "Dead letters", x_label="time (UTC)", y_label="count"))


def test_sparkline_is_a_line_with_a_gap_where_nothing_is_known() -> None:
    found = _parsed(sparkline([0, 5, None, 10, 10], "Visible, messages"))
    lines = [each.get("points", "") for each in found.iter("polyline")]
    assert [each.count(",") for each in lines] == [2, 2]
    assert lines[0].split()[0] == "2.0,26.0"
    assert lines[1].split() == ["89.0,2.0", "118.0,2.0"]
    assert found.findtext("title") == "Visible, messages"
    assert found.findtext("desc") == "From 0.0 to 10.0; lowest 0.0, highest 10.0."


def test_sparkline_of_one_value_is_visible_and_of_none_is_absent() -> None:
    assert len(sparkline([3], "x").split("<polyline")[1].split('"')[1].split()) == 2
    assert sparkline([], "x") == sparkline([None, None], "x") == ""


def test_sparkline_of_negative_changes_stays_inside() -> None:
    points = _parsed(sparkline([-4, 4], "x")).find("polyline")
    assert points is not None
    assert points.get("points") == "2.0,26.0 118.0,2.0"


def test_chart_has_at_most_three_series_and_the_rest() -> None:
    assert at_most_three(_BARS.series) == {
        "invalid": [1, 5], "conflict": [1, 1], "malformed": [2, 0], "other": [1, 0],
    }  # fmt: skip


def test_chart_describes_itself_and_labels_its_axes() -> None:
    found = _chart()
    assert found.findtext("title") == "Dead letters"
    assert found.findtext("desc") == (
        "invalid 6, conflict 2, malformed 2, other 1; from 10:00 to 10:01, most at 10:01."
    )
    texts = [each.text for each in found.iter("text")]
    assert texts == ["0", "3", "6", "10:00", "10:01", "time (UTC)", "count"]
    assert [each.findtext("title") for each in found.iter("g")] == [
        "10:00: invalid 1, conflict 1, malformed 2, other 1",
        "10:01: invalid 5, conflict 1, malformed 0, other 0",
    ]


def test_bars_are_stacked_to_scale_and_do_not_touch() -> None:
    groups = [list(each.iter("rect")) for each in _chart().iter("g")]
    heights = [[float(each.get("height", "")) for each in bars] for bars in groups]
    assert heights[1] == [125.0, 25.0]
    [first, *_], [second, *_] = groups
    right = float(first.get("x", "")) + float(first.get("width", ""))
    assert right < float(second.get("x", ""))


@pytest.mark.parametrize("count", [1, 30, 92, 400])
def test_many_bars_stay_inside_and_apart(count: int) -> None:
    found = _chart(Bars([str(each) for each in range(count)], {"invalid": [1] * count}))
    places = [
        (float(each.get("x", "")), float(each.get("width", ""))) for each in found.iter("rect")
    ]
    assert all(x >= 0 and x + width <= 640 for x, width in places)
    assert all(x + width < following for (x, width), (following, _) in itertools.pairwise(places))
    assert (
        len([each for each in found.iter("text") if (each.get("class") or "").startswith("tick")])
        <= 9
    )


def test_chart_without_data_is_empty() -> None:
    assert _chart(Bars([], {})).findtext("desc") == "No data."


def test_names_in_charts_are_escaped() -> None:
    bars = Bars(["<z>"], {"<i>": [1]})
    shown = stacked_bars(bars, "<t>", x_label="<x>", y_label="<y>") + legend(bars.series)
    assert not re.search("<[zitxy]>", shown)


def test_each_reason_has_a_colour_of_its_own() -> None:
    known = {colour(each) for each in (*Reason, "unexplained")}
    assert len(known) == len(Reason) + 1
    assert colour("<script>") == "series-other"


@pytest.mark.parametrize(
    ("age_seconds", "width"),
    [(0, 60), (1700, 60), (1800, 300), (8000, 300), (86_400, 3600), (14 * 86_400, 43_200)],
)
def test_timeline_chooses_the_width_of_bars_by_the_age(age_seconds: int, width: int) -> None:
    now = NOW
    deaths = [(now - timedelta(seconds=age_seconds), "invalid"), (now, "conflict")]
    bars, found = timeline(deaths, now)
    assert found == width
    assert len(bars.labels) <= 31
    assert {name: sum(values) for name, values in bars.series.items()} == {
        "invalid": 1,
        "conflict": 1,
    }
    assert bars.series["invalid"][0] == bars.series["conflict"][-1] == 1


def test_timeline_accepts_a_dead_letter_from_a_faster_clock_and_none_at_all() -> None:
    now = NOW
    bars, _ = timeline([(now + timedelta(seconds=90), "invalid")], now)
    assert sum(bars.series["invalid"]) == 1
    assert timeline([], now)[0].series == {}
