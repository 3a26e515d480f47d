"""Tests with random scenarios: nothing is lost, duplicated or left unsettled.

`SEED=7 make simulate` runs and traces one seed; `make simulate` runs thousands.
"""

from __future__ import annotations

import random

import pytest

from tests.simulation.scenario import Report, run_seed
from tests.simulation.trace import Trace

FIXED_SEEDS = range(75)
NEW_SEEDS = 75
BATCH = 25


def _run_seed(seed: int) -> Report:
    try:
        return run_seed(seed)
    except BaseException as error:
        print(f"SEED={seed}")  # noqa: T201 - shown with the failure
        error.add_note(f"reproduce with SEED={seed} make simulate")
        raise


def test_nothing_is_lost_or_recorded_twice_in_fixed_scenarios() -> None:
    reports = [_run_seed(seed) for seed in FIXED_SEEDS]
    # The scenarios contain every kind of fault.
    assert sum(report.kills for report in reports) > 10
    assert sum(report.faults for report in reports) > 200
    assert sum(report.dead_lettered for report in reports) > 20
    assert sum(report.received - report.sent for report in reports) > 200
    assert sum(report.denied > 0 for report in reports) > 8
    assert sum(report.missing > 0 for report in reports) > 3
    assert sum(report.gave_up > 0 for report in reports) > 3
    assert sum(report.expired > 0 for report in reports) > 0
    assert sum(report.large > 0 for report in reports) > 3
    assert sum(report.earlier > 0 for report in reports) > 3
    assert sum(report.edited > 0 for report in reports) > 0
    assert sum(report.languages > 0 for report in reports) > 3


@pytest.mark.parametrize("batch", range(0, NEW_SEEDS, BATCH))
def test_nothing_is_lost_or_recorded_twice_in_new_scenarios(batch: int) -> None:
    rng = random.SystemRandom()
    for _ in range(min(BATCH, NEW_SEEDS - batch)):
        _run_seed(rng.randrange(10**9))


def test_scenario_of_a_seed_is_repeatable() -> None:
    runs = []
    for _ in range(2):
        lines: list[str] = []
        report = run_seed(3, Trace(lines.append))
        runs.append((report, lines))
    assert runs[0] == runs[1]
