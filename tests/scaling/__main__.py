"""Try the scaling policy and write RESULTS.md and the chart: `python -m tests.scaling`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.scaling.charts import draw
from tests.scaling.report import markdown

HERE: Final = Path(__file__).parent


def main() -> None:
    """Write everything anew, and print it."""
    report = markdown()
    (HERE / "RESULTS.md").write_text(report)
    draw(HERE / "charts")
    print(report)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
