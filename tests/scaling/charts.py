"""Chart of the simulated scaling, as reproducible SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tests.scaling.model import ModelSample, simulate
from tests.scaling.variants import TEMPLATE_RATE, case_for

_WORKER, _OTHER, _WAIT = "#0b7a75", "#d9a441", "#c8553d"
_EVERY_SECONDS: Final = 15
_STEADY_EVERY_SECONDS: Final = 60
_SHOWN_SECONDS: Final = 3000
_BEFORE_SECONDS: Final = 300


def draw(folder: Path) -> Path:
    """Draw the wait and the number of tasks in each scenario at the template's rate.

    Returns:
        Path of the file.
    """
    folder.mkdir(exist_ok=True)
    case = case_for(TEMPLATE_RATE)
    with mpl.rc_context(
        {
            "svg.hashsalt": "scaling",
            "font.size": 8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 8,
            "axes.titleweight": "bold",
        }
    ):
        chart = Figure(figsize=(10, 4), layout="constrained")
        rows = chart.subplots(2, 4)
        for column, scenario in enumerate((case.burst, case.lost, case.throttled)):
            began = scenario.disturbed_at or 0
            samples = simulate(scenario, case.policy)[
                began - _BEFORE_SECONDS : began + _SHOWN_SECONDS
            ]
            _panel(rows[0][column], rows[1][column], scenario.title, samples, began)
        _steady(
            rows[0][3],
            rows[1][3],
            simulate(case.steady, case.policy),
            simulate(case.steady, replace(case.policy, cpu_percent=None)),
        )
        rows[0][0].set_ylabel("longest wait, min")
        rows[1][0].set_ylabel("tasks")
        file = folder / "scaling.svg"
        chart.savefig(file, metadata={"Date": None, "Creator": None})
    return file


def _panel(
    above: Axes, below: Axes, title: str, samples: Sequence[ModelSample], began: int
) -> None:  # fmt: skip
    shown = samples[::_EVERY_SECONDS]
    minutes = [(each.second - began) / 60 for each in shown]
    above.fill_between(minutes, [each.wait_seconds / 60 for each in shown], color=_WAIT, lw=0)
    above.set_title(title)
    above.set_ylim(0, 10)
    below.step(minutes, [each.desired for each in shown], color=_OTHER, lw=1, label="desired")
    below.step(minutes, [each.running for each in shown], color=_WORKER, label="running")
    below.set_ylim(0, 14)
    below.set_xlabel("minutes")
    below.legend(frameon=False, fontsize=7, loc="upper right")


def _steady(
    above: Axes, below: Axes, both: Sequence[ModelSample], alone: Sequence[ModelSample]
) -> None:  # fmt: skip
    hours = [each.second / 3600 for each in both[::_STEADY_EVERY_SECONDS]]
    for samples, colour, label in ((alone, _OTHER, "backlog alone"), (both, _WORKER, "and CPU")):
        shown = samples[::_STEADY_EVERY_SECONDS]
        above.plot(hours, [each.wait_seconds / 60 for each in shown], color=colour, lw=1)
        below.step(hours, [each.running for each in shown], color=colour, label=label)
    above.set_title("steady, by policy")
    above.set_ylim(0, 10)
    below.set_ylim(0, 14)
    below.set_xlabel("hours")
    below.legend(frameon=False, fontsize=7, loc="upper right")
