"""Simulate the scaling policy and write RESULTS.md and the chart: `python -m tests.scaling`.

With `--rate 5000/s` it prints the results for that rate and writes nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from tests.scaling.charts import draw
from tests.scaling.report import markdown, section

HERE: Final = Path(__file__).parent


def main() -> None:
    """Write and print the report and write the chart, or print the results for one rate."""
    parser = argparse.ArgumentParser(description="Simulate the scaling policy.")
    parser.add_argument("--rate", help="message rate: 10000/min, or with /s, /h, /day")
    rate = parser.parse_args().rate
    if rate is not None:
        print(section(rate))  # noqa: T201 - the result
        return
    report = markdown()
    (HERE / "RESULTS.md").write_text(report)
    draw(HERE / "charts")
    print(report)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
