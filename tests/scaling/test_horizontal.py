"""Tests that the ScaledObject settles, and that the model follows the documentation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from tests.scaling.horizontal import SYNC_SECONDS, HorizontalPolicy
from tests.scaling.kubernetes import chosen
from tests.scaling.model import Change, TrafficScenario, simulate
from tests.scaling.scenarios import run_scenario
from tests.scaling.variants import RATES, TEMPLATE_RATE, Case, case_for

CASES = {rate: case_for(rate) for rate in (*RATES, "4000/s", "5400/s", "33000/s")}
USUAL = CASES[TEMPLATE_RATE]
POLICY = HorizontalPolicy(
    queue_length=1000, cpu_percent=60, pods_min=1, pods_max=1000, in_window_seconds=300
)
STILL = TrafficScenario("still", rate=100, task_rate=100 / 0.57, seconds=1800, tasks=1)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_steady_rate_causes_at_most_one_change_and_no_wait(case: Case) -> None:
    result = run_scenario(case.steady, chosen(case))
    assert result.changes <= 1
    assert result.wait_max == 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_disturbance_drains_and_settles(case: Case) -> None:
    for scenario in (case.burst, case.lost, case.throttled):
        samples = simulate(scenario, chosen(case))
        assert samples[-1].backlog == pytest.approx(0, abs=1e-3), scenario.title
        assert max(each.desired for each in samples) <= chosen(case).pods_max
        assert run_scenario(scenario, chosen(case)).turns <= 2, scenario.title


def test_queue_alone_oscillates() -> None:
    alone = run_scenario(USUAL.steady, replace(chosen(USUAL), cpu_percent=None))
    assert alone.turns >= 10
    assert alone.wait_max > 30


def test_shorter_window_changes_the_number_of_pods_twice_as_often() -> None:
    free = replace(chosen(USUAL), pods_max=100)
    hasty = run_scenario(USUAL.unsteady, replace(free, in_window_seconds=60))
    assert hasty.turns >= 2 * run_scenario(USUAL.unsteady, free).turns


def test_smaller_queue_length_starts_more_pods_while_the_table_is_throttled() -> None:
    free = replace(chosen(USUAL), pods_max=100)
    small = replace(free, queue_length=free.queue_length / 6)
    peak = run_scenario(USUAL.throttled, small).tasks_peak
    assert peak > 3 * run_scenario(USUAL.throttled, free).tasks_peak


def test_backlog_asks_for_a_pod_for_each_queue_length() -> None:
    scenario = replace(STILL, throttled=(Change(0, 1800, 0.0),), seconds=300)
    samples = simulate(scenario, replace(POLICY, cpu_percent=None))
    # The number of messages is a minute old, and a tenth changes nothing.
    assert samples[-1].desired == pytest.approx(100 * (299 - 60) / 1000, rel=0.1)


def test_metric_within_a_tenth_of_its_target_changes_nothing() -> None:
    within = replace(STILL, bursts=(Change(0, 1800, 1.1),))
    beyond = replace(STILL, bursts=(Change(0, 1800, 1.2),))
    assert {each.desired for each in simulate(within, POLICY)} == {1}
    assert simulate(beyond, POLICY)[-1].desired == 2


def test_scale_out_doubles_or_adds_four_at_once() -> None:
    scenario = replace(STILL, rate=1e5, task_rate=1, seconds=120)
    desired = [each.desired for each in simulate(scenario, replace(POLICY, cpu_percent=None))]
    steps = [later for former, later in pairwise(desired) if later != former]
    assert steps[:4] == [5, 10, 20, 40]


def test_scale_in_waits_for_its_window() -> None:
    samples = simulate(replace(STILL, tasks=2), POLICY)
    first = next(each.second for each in samples if each.desired == 1)
    assert 300 - SYNC_SECONDS <= first <= 300 + SYNC_SECONDS
