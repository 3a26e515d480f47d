"""Progress of a replay: it counts what the filters select."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from rich.progress import Progress

from tests.simulation.virtual_clock import START
from worker.cli.replay import _Progress
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import ReplayFigures, Result


@pytest.mark.parametrize(
    ("conditions", "total"),
    [
        ({}, 400),
        ({"limit": 15}, 15),
        ({"limit": 1000}, 400),
        ({"ids": ["a", "b"]}, 2),
        ({"reasons": ["invalid"]}, None),
        ({"users": ["u-1"], "limit": 15}, None),
        ({"policies": ["aup"]}, None),
        ({"versions": ["7"]}, None),
        ({"since": START}, None),
        ({"until": START + timedelta(days=1)}, None),
        ({"grep": re.compile("x"), "ids": ["a"]}, None),
    ],
)
def test_total_is_what_the_filters_select_and_not_the_depth_of_the_queue(
    conditions: dict[str, Any], total: int | None
) -> None:
    assert DeadLetterFilter(**conditions).total(400) == total


class _DeadLetter:
    def summary(self, _: object) -> dict[str, str]:
        return {}


def _replay(total: int | None) -> tuple[_Progress, Progress]:
    bar = Progress(disable=True)
    return _Progress(bar, total, 400), bar


def test_bar_counts_results_and_shows_the_scan_until_the_total_is_known() -> None:
    progress, bar = _replay(None)
    for count in range(1, 231):
        progress.on_scanned(count)
    for _ in range(12):
        progress.on_result(_DeadLetter(), Result.REPLAYED, ReplayFigures())  # type: ignore[arg-type]
    (task,) = bar.tasks
    assert (task.completed, task.total) == (12, None)
    assert re.fullmatch(r"[\d,]+/s, scanned 230 of 400", task.fields["rate"])


def test_bar_has_a_total_if_it_is_known_before_the_scan() -> None:
    progress, bar = _replay(15)
    progress.on_scanned(230)
    progress.on_result(_DeadLetter(), Result.REPLAYED, ReplayFigures())  # type: ignore[arg-type]
    (task,) = bar.tasks
    assert (task.completed, task.total) == (1, 15)
    assert re.fullmatch(r"[\d,]+/s", task.fields["rate"])
