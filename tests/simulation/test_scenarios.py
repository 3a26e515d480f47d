"""Play scenarios from seeds: whatever goes wrong, nothing is lost, doubled or left behind.

`SEED=7 make simulate` plays one seed and tells its story; `make simulate` plays thousands.
"""

from __future__ import annotations

import random

import pytest

from tests.simulation.scenario import Report, play
from tests.simulation.trace import Trace

FIXED_SEEDS = range(75)
NEW_SEEDS = 75
BATCH = 25


def _play(seed: int) -> Report:
    try:
        return play(seed)
    except BaseException as error:
        print(f"SEED={seed}")  # noqa: T201 - shown with the failure
        error.add_note(f"SEED={seed} make simulate plays it again")
        raise


@pytest.mark.parametrize("first", range(FIXED_SEEDS.start, FIXED_SEEDS.stop, BATCH))
def test_nothing_is_lost_whatever_breaks(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIXED_SEEDS.stop)):
        _play(seed)


@pytest.mark.parametrize("batch", range(0, NEW_SEEDS, BATCH))
def test_nothing_is_lost_in_seeds_that_nobody_has_played_before(batch: int) -> None:
    rng = random.SystemRandom()
    for _ in range(min(BATCH, NEW_SEEDS - batch)):
        _play(rng.randrange(10**9))


def test_a_seed_gives_the_same_story_every_time() -> None:
    stories = []
    for _ in range(2):
        lines: list[str] = []
        report = play(3, Trace(lines.append))
        stories.append((report, lines))
    assert stories[0] == stories[1]


def test_the_scenarios_meet_every_kind_of_trouble() -> None:
    reports = [play(seed) for seed in range(60)]
    assert sum(report.kills for report in reports) > 10
    assert sum(report.faults for report in reports) > 200
    assert sum(report.dead for report in reports) > 20
    assert sum(report.received - report.sent for report in reports) > 200
    assert sum(report.denied > 0 for report in reports) > 8
    assert sum(report.gone > 0 for report in reports) > 3
    assert sum(report.gave_up > 0 for report in reports) > 3
    assert sum(report.expired > 0 for report in reports) > 0
    assert sum(report.large > 0 for report in reports) > 3
