"""Play scenarios from seeds: whatever goes wrong, nothing is lost, doubled or left behind.

`SEED=7 pytest tests/simulation/test_scenarios.py` plays one seed only, `TRACE=1` tells its story
(with `-s`), and `SEEDS=1000` plays as many new ones.
"""

from __future__ import annotations

import os
import random

import pytest

from tests.simulation.scenario import Report, play
from tests.simulation.trace import Trace

FIXED_SEEDS = range(75)
NEW_SEEDS = int(os.environ.get("SEEDS", "75"))
BATCH = 25
ONLY_SEED = os.environ.get("SEED")
_TRACED = bool(os.environ.get("TRACE"))

several = pytest.mark.skipif(ONLY_SEED is not None, reason="SEED plays one seed only")


def _play(seed: int) -> Report:
    trace = Trace(print) if _TRACED else Trace()
    try:
        return play(seed, trace)
    except BaseException as error:
        print(f"SEED={seed}")  # noqa: T201 - shown with the failure
        error.add_note(f"SEED={seed} pytest tests/simulation/test_scenarios.py plays it again")
        raise


@pytest.mark.skipif(ONLY_SEED is None, reason="SEED is not set")
def test_nothing_is_lost_in_the_one_seed_that_was_asked_for() -> None:
    print(_play(int(ONLY_SEED or 0)))  # noqa: T201 - what came to pass


@several
@pytest.mark.parametrize("first", range(FIXED_SEEDS.start, FIXED_SEEDS.stop, BATCH))
def test_nothing_is_lost_whatever_breaks(first: int) -> None:
    for seed in range(first, min(first + BATCH, FIXED_SEEDS.stop)):
        _play(seed)


@several
@pytest.mark.parametrize("batch", range(0, NEW_SEEDS, BATCH))
def test_nothing_is_lost_in_seeds_that_nobody_has_played_before(batch: int) -> None:
    rng = random.SystemRandom()
    for _ in range(min(BATCH, NEW_SEEDS - batch)):
        _play(rng.randrange(10**9))


@several
def test_a_seed_gives_the_same_story_every_time() -> None:
    stories = []
    for _ in range(2):
        lines: list[str] = []
        report = play(3, Trace(lines.append))
        stories.append((report, lines))
    assert stories[0] == stories[1]


@several
def test_the_scenarios_meet_every_kind_of_trouble() -> None:
    reports = [play(seed) for seed in range(20)]
    assert sum(report.kills for report in reports) > 10
    assert sum(report.faults for report in reports) > 200
    assert sum(report.dead for report in reports) > 20
    assert sum(report.received - report.sent for report in reports) > 200
