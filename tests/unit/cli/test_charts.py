"""Charts as files: contents, errors, and the same bytes for the same figures."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree as ET

import matplotlib as mpl
import matplotlib.image
import pytest

from worker.cli import charts
from worker.cli.charts import Days, Months, chart_writer
from worker.errors import UsageError

MONTHS = Months(
    title="167 messages per second in us-east-1",
    y_label="cost of the month, USD",
    series={
        "this plan": [744 + 165.0 * month for month in range(36)],
        "Standard-IA": [757 + 110.0 * month for month in range(36)],
        "close to it": [756 + 110.5 * month for month in range(36)],
    },
)


def days(count: int) -> Days:
    first = date(2026, 1, 20)
    return Days(
        title="acceptable-use 2026-01: accepted by 12 users",
        y_label="users per day",
        counts={first + timedelta(days=each): 3 + each % 5 for each in range(count)},
    )


def write(chart: Months | Days, file: Path) -> bytes:
    writer = chart_writer(file)
    assert writer is not None
    writer(chart)
    return file.read_bytes()


def texts(svg: bytes) -> list[str]:
    """Return the texts of an SVG; it draws them as paths, with the text in a comment."""
    ET.fromstring(svg)  # noqa: S314 - our own file
    return [
        html.unescape(each.strip()) for each in re.findall("<!--(.*?)-->", svg.decode(), re.DOTALL)
    ]


def test_no_file_no_chart() -> None:
    assert chart_writer(None) is None


def test_axes_lines_and_last_values_are_labelled(tmp_path: Path) -> None:
    found = texts(write(MONTHS, tmp_path / "plan.svg"))
    assert {MONTHS.title, MONTHS.y_label, "month", "1", "12", "36", *MONTHS.series} <= set(found)
    assert {"6,519", "4,607"} <= set(found)
    assert "4,624" not in found, "it would cover the label of the line that ends close by"


@pytest.mark.parametrize(
    ("count", "dates"),
    [
        (1, {"2026-01-17", "2026-01-20", "2026-01-23"}),
        (7, {"2026-01-20", "2026-01-23", "2026-01-26"}),
        (60, {"2026-02-01", "2026-03-01"}),
        (700, {"2027-01-01"}),
    ],
)
def test_days_are_dates_that_cannot_be_misread(tmp_path: Path, count: int, dates: set[str]) -> None:
    chart = days(count)
    found = texts(write(chart, tmp_path / "coverage.svg"))
    assert {chart.title, chart.y_label, "day (UTC)"} | dates <= set(found)
    assert len([each for each in found if each.startswith("202")]) <= 8, "labels would overlap"


def test_a_version_nobody_accepted_has_an_empty_chart(tmp_path: Path) -> None:
    found = texts(write(days(0), tmp_path / "coverage.svg"))
    assert {"day (UTC)", "users per day"} <= set(found)


@pytest.mark.parametrize("name", ["chart.svg", "chart.PNG"])
@pytest.mark.parametrize("chart", [MONTHS, days(30)])
def test_the_same_figures_are_the_same_bytes(
    tmp_path: Path, name: str, chart: Months | Days
) -> None:
    first = write(chart, tmp_path / name)
    assert write(chart, tmp_path / name) == first
    assert mpl.__version__.encode() not in first
    assert chart.title.encode() in first, "for screen readers and file managers"


def test_another_process_writes_the_same_bytes(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from tests.unit.cli.test_charts import *;"
        "write(MONTHS, Path(sys.argv[1]))"
    )
    subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program, str(tmp_path / "other.svg")],
        env={"PYTHONHASHSEED": "7", "HOME": str(tmp_path)}, cwd=Path(__file__).parents[3],
        check=True, timeout=60,
    )  # fmt: skip
    assert (tmp_path / "other.svg").read_bytes() == write(MONTHS, tmp_path / "this.svg")


def test_paper_is_white_so_that_text_is_legible_on_a_dark_page(tmp_path: Path) -> None:
    write(days(30), tmp_path / "chart.png")
    pixels = mpl.image.imread(tmp_path / "chart.png")
    assert pixels.shape[1] >= 1000
    assert pixels[..., 3].min() == 1, "opaque"
    assert pixels[0, 0].tolist() == [1, 1, 1, 1]


def test_a_policy_id_is_text_and_no_formula(tmp_path: Path) -> None:
    title = "$\\frac{a}{$ <b>&amp; -- 使用: accepted by 1 user"
    chart = Days(title=title, y_label="users per day", counts={date(2026, 1, 20): 1})
    for name in ("chart.svg", "chart.png"):
        write(chart, tmp_path / name)
    assert any(
        "accepted by 1 user" in each for each in texts((tmp_path / "chart.svg").read_bytes())
    )


class TestErrors:
    @pytest.mark.parametrize("name", ["chart.pdf", "chart", "svg", "chart.svg.gz"])
    def test_an_unknown_suffix_is_reported_before_any_work(self, name: str) -> None:
        with pytest.raises(UsageError) as raised:
            chart_writer(Path(name))
        assert str(raised.value) == (
            f"--chart {name}: unknown format; use a name that ends in .svg or .png"
        )

    def test_a_missing_folder_is_reported_before_any_work(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="no such folder; create it first"):
            chart_writer(tmp_path / "nowhere" / "chart.svg")

    def test_a_file_that_cannot_be_written_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "chart.svg").mkdir()
        writer = chart_writer(tmp_path / "chart.svg")
        assert writer is not None
        with pytest.raises(UsageError, match=r"--chart .*chart\.svg: Is a directory"):
            writer(MONTHS)

    def test_the_missing_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        missing: Callable[[str], None] = lambda _: None  # noqa: E731
        monkeypatch.setattr(charts, "find_spec", missing)
        with pytest.raises(UsageError) as raised:
            chart_writer(Path("chart.svg"))
        assert str(raised.value) == (
            "--chart requires matplotlib: pip install 'aup-worker[charts]'"
        )
