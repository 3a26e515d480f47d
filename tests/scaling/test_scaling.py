"""Tests that the chosen policy settles, and that the model follows AWS's guides."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scaling.model import Change, ModelSample, ScalingPolicy, TrafficScenario, simulate
from tests.scaling.report import deployments, on_kubernetes, section
from tests.scaling.scenarios import DISTURBED_AT, run_scenario, summarize
from tests.scaling.variants import RATES, TEMPLATE_RATE, Case, case_for

MINUTE = 60
# From a single idle task to hundreds of tasks.
VARIED = (*RATES, "4000/s", "5400/s", "33000/s", "120000/s")
CASES = {rate: case_for(rate) for rate in VARIED}
USUAL = CASES[TEMPLATE_RATE]


def desired(samples: list[ModelSample]) -> list[int]:
    return [each.desired for each in samples]


def changed_at(samples: list[ModelSample]) -> list[int]:
    return [later.second for former, later in pairwise(samples) if later.desired != former.desired]


class TestSettling:
    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_steady_rate_causes_no_change_and_no_wait(self, case: Case) -> None:
        samples = simulate(case.steady, case.policy)
        # If the planned utilization is reached exactly, one task less may be enough.
        assert len(changed_at(samples)) <= 1
        assert max(each.wait_seconds for each in samples) == 0

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_fluctuating_rate_changes_one_task_or_a_fifth_without_wait(self, case: Case) -> None:
        result = run_scenario(case.unsteady, case.policy)
        assert result.turns <= 16, "four times an hour, between two numbers of tasks"
        assert result.tasks_peak - result.tasks_before <= max(
            1, math.ceil(0.2 * result.tasks_before)
        )
        assert result.wait_max <= 1

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_each_disturbance_drains_settles_and_returns_to_the_start(self, case: Case) -> None:
        # While the table throttles, the CPU falls before the backlog rises: a task may be stopped.
        for scenario, max_minutes, turns in (
            (case.burst, 65, 1),
            (case.lost, 0, 0),
            (case.throttled, 35, 2),
        ):
            samples = simulate(scenario, case.policy)
            result = summarize(scenario, samples)
            assert min(desired(samples)) >= 1
            assert max(desired(samples)) <= case.policy.tasks_max
            assert samples[-1].backlog == pytest.approx(0, abs=1e-3)
            assert (result.settled_after or 0) <= max_minutes * MINUTE, scenario.title
            assert result.turns <= turns, scenario.title
            assert abs(result.tasks_after - result.tasks_before) <= 1 + 0.05 * result.tasks_before

    @pytest.mark.parametrize("rate", ["10000/min", "33000/s"])
    def test_day_scales_out_once_and_in_once_without_wait(self, rate: str) -> None:
        result = run_scenario(CASES[rate].day, CASES[rate].policy)
        assert result.turns <= 1
        assert result.wait_max <= 1

    def test_lost_task_is_replaced_without_scaling(self) -> None:
        result = run_scenario(USUAL.lost, USUAL.policy)
        assert result.changes == 0
        assert result.backlog_lasted is not None
        assert result.backlog_lasted <= 120

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(
        rate=st.floats(1, 200_000),
        factor=st.floats(0.05, 8),
        minutes=st.integers(1, 40),
        lost=st.lists(st.integers(DISTURBED_AT, DISTURBED_AT + 1800), max_size=4),
        throttled_to=st.floats(0, 1),
        seed=st.integers(0, 2**32),
    )
    def test_any_disturbance_of_an_hour_drains_and_settles_by_the_fourth(
        self,
        rate: float,
        factor: float,
        minutes: int,
        lost: list[int],
        throttled_to: float,
        seed: int,
    ) -> None:
        case = case_for(f"{rate:.3f}/s")
        until = DISTURBED_AT + minutes * MINUTE
        scenario = replace(
            case.steady,
            seconds=5 * 3600,
            bursts=(Change(DISTURBED_AT, until, factor),),
            throttled=(Change(DISTURBED_AT, DISTURBED_AT + 600, throttled_to * rate),),
            lost_at=tuple(lost),
        )
        # Bursts beyond the maximum number of tasks are reported by `plan` and not tested here.
        policy = replace(case.policy, tasks_max=10 * case.fleet.tasks)
        samples = simulate(scenario, policy, seed)
        assert min(desired(samples)) >= 1
        assert samples[-1].backlog == pytest.approx(0, abs=1e-3)
        assert [each for each in changed_at(samples) if each > 4 * 3600] == []


class TestReasons:
    """Tests that each parameter of the policy is needed."""

    def test_backlog_policy_alone_oscillates(self) -> None:
        alone = run_scenario(USUAL.steady, replace(USUAL.policy, cpu_percent=None))
        assert alone.turns >= 10
        assert alone.wait_max > 60

    def test_short_cooldown_after_a_scale_in_stops_too_many_tasks(self) -> None:
        hasty = run_scenario(USUAL.burst, replace(USUAL.policy, in_cooldown_seconds=120))
        assert hasty.turns >= 10

    def test_short_cooldown_after_a_scale_out_adds_tasks_for_the_same_messages(self) -> None:
        free = replace(USUAL.policy, tasks_max=100)
        limit = {
            seconds: run_scenario(
                USUAL.throttled, replace(free, out_cooldown_seconds=seconds)
            ).tasks_peak
            for seconds in (180, free.out_cooldown_seconds)
        }  # fmt: skip
        assert limit[180] > 3 * limit[free.out_cooldown_seconds]

    def test_protected_tasks_are_never_scaled_in_while_messages_arrive(self) -> None:
        scenario = replace(USUAL.burst, protected=True)
        result = run_scenario(scenario, USUAL.policy)
        assert result.tasks_after == result.tasks_peak == USUAL.policy.tasks_max

    def test_protection_ends_with_the_messages(self) -> None:
        ended = Change(3 * 3600, USUAL.burst.seconds, 0.0)
        scenario = replace(USUAL.burst, protected=True, bursts=(*USUAL.burst.bursts, ended))
        samples = simulate(scenario, USUAL.policy)
        assert samples[3 * 3600 - 1].running == USUAL.policy.tasks_max
        assert samples[-1].running == 1


POLICY = ScalingPolicy(
    backlog_per_task=1000, cpu_percent=60, tasks_min=1, tasks_max=1000,
    out_cooldown_seconds=240, in_cooldown_seconds=300,
)  # fmt: skip
STILL = TrafficScenario("still", rate=100, task_rate=100 / 0.57, seconds=3600, tasks=1)


class TestModel:
    def test_three_late_points_scale_out(self) -> None:
        # The CPU is full at the end of minutes 10 to 12; the last point arrives two minutes later.
        scenario = replace(STILL, bursts=(Change(600, 3600, 1.5),))
        samples = simulate(scenario, POLICY)
        at = changed_at(samples)[0]
        assert at == 600 + 3 * 60 + 120
        # ceil(1 x (150 x 0.57 / 100) / 0.60)
        assert samples[at].desired == 2

    def test_two_points_above_the_target_are_not_enough(self) -> None:
        scenario = replace(STILL, bursts=(Change(600, 720, 1.5),))
        assert changed_at(simulate(scenario, POLICY)) == []

    def test_fifteen_points_scale_in(self) -> None:
        # Two tasks at 28.5 %: one at 57 % is enough.
        samples = simulate(replace(STILL, tasks=2), POLICY)
        assert changed_at(samples) == [15 * 60 + 120]
        assert samples[-1].desired == samples[-1].running == 1

    def test_policy_with_a_backlog_prevents_the_other_from_scaling_in(self) -> None:
        scenario = replace(STILL, tasks=2, rate=50, throttled=(Change(0, 3600, 49.0),))
        assert changed_at(simulate(scenario, replace(POLICY, backlog_per_task=1e9))) == [1020]
        # 18 a minute for each of two tasks: above 0.9 x 90 within five minutes, soon above 90.
        samples = simulate(scenario, replace(POLICY, backlog_per_task=90))
        assert min(desired(samples)) == 2

    def test_a_backlog_scales_out_by_its_size(self) -> None:
        # 900 a second more than one task processes: the first of three points is 54,000.
        scenario = replace(STILL, task_rate=100, rate=1000, seconds=900)
        samples = simulate(scenario, replace(POLICY, cpu_percent=None))
        assert samples[changed_at(samples)[0]].desired == 900 * 180 / 1000

    def test_only_larger_scale_outs_from_the_same_base_happen_within_the_cooldown(self) -> None:
        scenario = replace(STILL, task_rate=100, rate=1000, seconds=900)
        samples = simulate(scenario, replace(POLICY, cpu_percent=None))
        first, second = changed_at(samples)[:2]
        assert second == first + 60
        # The base is still one task: the metric counts once, not 162 times.
        assert samples[second].desired == 900 * 240 / 1000

    def test_task_starts_within_60_to_90_seconds(self) -> None:
        scenario = replace(STILL, lost_at=(600,))
        ups = set()
        for seed in range(20):
            samples = simulate(scenario, POLICY, seed)
            assert samples[600].running == 0
            ups.add(next(each.second for each in samples[600:] if each.running) - 600)
        assert min(ups) >= 60
        assert 80 < max(ups) <= 92

    def test_service_launches_500_tasks_a_minute(self) -> None:
        scenario = replace(STILL, task_rate=1, rate=1e6, seconds=1200)
        samples = simulate(scenario, replace(POLICY, tasks_max=5000))
        wanted = next(each.second for each in samples if each.desired > 4000)
        full = next(each.second for each in samples if each.running == 5000)
        assert full - wanted >= (5000 - 100) / 500 * 60

    def test_wait_is_the_age_of_the_oldest_message(self) -> None:
        scenario = replace(
            STILL, task_rate=200, seconds=1200, throttled=(Change(600, 700, 0.0),)
        )  # fmt: skip
        samples = simulate(scenario, POLICY)
        assert samples[699].backlog == pytest.approx(100 * 100)
        assert samples[699].wait_seconds == 99
        # 10,000 at 100 a second above the arrivals.
        assert samples[800].backlog == pytest.approx(0, abs=1e-3)
        assert samples[801].wait_seconds == 0


def test_results_in_the_document_are_those_of_the_model() -> None:
    written = (Path(__file__).parent / "RESULTS.md").read_text()
    assert section(TEMPLATE_RATE) in written, "run make scaling"
    assert deployments() in written, "run make scaling"
    assert on_kubernetes() in written, "run make scaling"
