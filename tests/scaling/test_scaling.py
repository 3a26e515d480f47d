"""The chosen policy settles after whatever happens; and the model does what AWS's guides say."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.scaling.model import Change, Policy, Sample, Story, simulate
from tests.scaling.report import section
from tests.scaling.scenarios import DISTURBED_AT, outcome, tell
from tests.scaling.variants import RATES, TEMPLATE_RATE, Case, case

MINUTE = 60
# What a rate takes by its tasks, from one that is bored to hundreds.
VARIED = (*RATES, "4000/s", "5400/s", "33000/s", "120000/s")
CASES = {rate: case(rate) for rate in VARIED}
USUAL = CASES[TEMPLATE_RATE]


def desired(samples: list[Sample]) -> list[int]:
    return [each.desired for each in samples]


def changed_at(samples: list[Sample]) -> list[int]:
    return [later.second for former, later in pairwise(samples) if later.desired != former.desired]


class TestSettling:
    @pytest.mark.parametrize("told", CASES.values(), ids=CASES)
    def test_while_the_rate_is_steady_nothing_changes_and_nothing_waits(self, told: Case) -> None:
        samples = simulate(told.steady, told.policy)
        # At a planned utilisation that is exactly reached, one task less may do.
        assert len(changed_at(samples)) <= 1
        assert max(each.wait_seconds for each in samples) == 0

    @pytest.mark.parametrize("told", CASES.values(), ids=CASES)
    def test_an_unsteady_rate_moves_one_task_or_a_fifth_and_nothing_waits(self, told: Case) -> None:
        came = tell(told.unsteady, told.policy)
        assert came.turns <= 16, "four times an hour, where one task more or less decides"
        assert came.tasks_most - came.tasks_before <= max(1, math.ceil(0.2 * came.tasks_before))
        assert came.wait_max <= 1

    @pytest.mark.parametrize("told", CASES.values(), ids=CASES)
    def test_after_each_disturbance_it_drains_settles_and_comes_back(self, told: Case) -> None:
        # While the table throttles, the CPU falls before the backlog shows: a task may go and come.
        for story, most_minutes, turns in (
            (told.burst, 65, 1),
            (told.lost, 0, 0),
            (told.throttled, 35, 2),
        ):
            samples = simulate(story, told.policy)
            came = outcome(story, samples)
            assert min(desired(samples)) >= 1
            assert max(desired(samples)) <= told.policy.tasks_max
            assert samples[-1].backlog == pytest.approx(0, abs=1e-3)
            assert (came.settled_after or 0) <= most_minutes * MINUTE, story.title
            assert came.turns <= turns, story.title
            assert abs(came.tasks_after - came.tasks_before) <= 1 + 0.05 * came.tasks_before

    @pytest.mark.parametrize("rate", ["10000/min", "33000/s"])
    def test_a_day_goes_up_once_and_down_once_and_nothing_waits(self, rate: str) -> None:
        came = tell(CASES[rate].day, CASES[rate].policy)
        assert came.turns <= 1
        assert came.wait_max <= 1

    def test_a_lost_task_is_made_up_for_before_anybody_scales(self) -> None:
        came = tell(USUAL.lost, USUAL.policy)
        assert came.changes == 0
        assert came.backlog_lasted is not None
        assert came.backlog_lasted <= 120

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(
        rate=st.floats(1, 200_000),
        factor=st.floats(0.05, 8),
        minutes=st.integers(1, 40),
        lost=st.lists(st.integers(DISTURBED_AT, DISTURBED_AT + 1800), max_size=4),
        throttled_to=st.floats(0, 1),
        seed=st.integers(0, 2**32),
    )
    def test_whatever_happens_in_an_hour_it_drains_and_settles_by_the_fourth(
        self,
        rate: float,
        factor: float,
        minutes: int,
        lost: list[int],
        throttled_to: float,
        seed: int,
    ) -> None:
        told = case(f"{rate:.3f}/s")
        until = DISTURBED_AT + minutes * MINUTE
        story = replace(
            told.steady,
            seconds=5 * 3600,
            bursts=(Change(DISTURBED_AT, until, factor),),
            throttled=(Change(DISTURBED_AT, DISTURBED_AT + 600, throttled_to * rate),),
            lost_at=tuple(lost),
        )
        # A burst that the most tasks cannot take is told as it is by `plan`, and not held here.
        policy = replace(told.policy, tasks_max=10 * told.fleet.tasks)
        samples = simulate(story, policy, seed)
        assert min(desired(samples)) >= 1
        assert samples[-1].backlog == pytest.approx(0, abs=1e-3)
        assert [each for each in changed_at(samples) if each > 4 * 3600] == []


class TestReasons:
    """Each choice is there because without it the service does worse."""

    def test_the_backlog_alone_oscillates(self) -> None:
        alone = tell(USUAL.steady, replace(USUAL.policy, cpu_percent=None))
        assert alone.turns >= 10
        assert alone.wait_max > 60

    def test_a_short_cooldown_after_a_scale_in_takes_too_many_twice(self) -> None:
        hasty = tell(USUAL.burst, replace(USUAL.policy, in_cooldown_seconds=120))
        assert hasty.turns >= 10

    def test_a_short_cooldown_after_a_scale_out_adds_tasks_for_the_same_messages(self) -> None:
        free = replace(USUAL.policy, tasks_max=100)
        most = {
            seconds: tell(
                USUAL.throttled, replace(free, out_cooldown_seconds=seconds)
            ).tasks_most
            for seconds in (180, free.out_cooldown_seconds)
        }  # fmt: skip
        assert most[180] > 3 * most[free.out_cooldown_seconds]

    def test_protected_tasks_are_never_scaled_in_while_messages_come(self) -> None:
        story = replace(USUAL.burst, protected=True)
        came = tell(story, USUAL.policy)
        assert came.tasks_after == came.tasks_most == USUAL.policy.tasks_max

    def test_protection_ends_with_the_messages(self) -> None:
        ended = Change(3 * 3600, USUAL.burst.seconds, 0.0)
        story = replace(USUAL.burst, protected=True, bursts=(*USUAL.burst.bursts, ended))
        samples = simulate(story, USUAL.policy)
        assert samples[3 * 3600 - 1].running == USUAL.policy.tasks_max
        assert samples[-1].running == 1


POLICY = Policy(
    backlog_per_task=1000, cpu_percent=60, tasks_min=1, tasks_max=1000,
    out_cooldown_seconds=240, in_cooldown_seconds=300,
)  # fmt: skip
STILL = Story("still", rate=100, task_rate=100 / 0.57, seconds=3600, tasks=1)


class TestModel:
    def test_three_late_points_scale_out(self) -> None:
        # At the end of minutes 10, 11 and 12 the CPU is full; the last is seen two minutes later.
        story = replace(STILL, bursts=(Change(600, 3600, 1.5),))
        samples = simulate(story, POLICY)
        at = changed_at(samples)[0]
        assert at == 600 + 3 * 60 + 120
        # ceil(1 x (150 x 0.57 / 100) / 0.60)
        assert samples[at].desired == 2

    def test_two_points_above_the_target_are_not_enough(self) -> None:
        story = replace(STILL, bursts=(Change(600, 720, 1.5),))
        assert changed_at(simulate(story, POLICY)) == []

    def test_fifteen_points_scale_in(self) -> None:
        # Two tasks at 28.5 %: one is enough, at 57 %.
        samples = simulate(replace(STILL, tasks=2), POLICY)
        assert changed_at(samples) == [15 * 60 + 120]
        assert samples[-1].desired == samples[-1].running == 1

    def test_a_policy_that_sees_a_backlog_keeps_the_other_from_scaling_in(self) -> None:
        story = replace(STILL, tasks=2, rate=50, throttled=(Change(0, 3600, 49.0),))
        assert changed_at(simulate(story, replace(POLICY, backlog_per_task=1e9))) == [1020]
        # 18 a minute for each of two: beyond 0.9 x 90 within five minutes, and soon beyond 90.
        samples = simulate(story, replace(POLICY, backlog_per_task=90))
        assert min(desired(samples)) == 2

    def test_a_backlog_scales_out_by_its_size(self) -> None:
        # 900 a second more than the one task takes: the first of three points is 54,000.
        story = replace(STILL, task_rate=100, rate=1000, seconds=900)
        samples = simulate(story, replace(POLICY, cpu_percent=None))
        assert samples[changed_at(samples)[0]].desired == 900 * 180 / 1000

    def test_within_the_cooldown_only_a_larger_scale_out_happens_on_what_was_before(self) -> None:
        story = replace(STILL, task_rate=100, rate=1000, seconds=900)
        samples = simulate(story, replace(POLICY, cpu_percent=None))
        first, second = changed_at(samples)[:2]
        assert second == first + 60
        # The base is the one task still: not 162 times what was seen, but once.
        assert samples[second].desired == 900 * 240 / 1000

    def test_a_task_is_up_60_to_90_seconds_after_it_is_wanted(self) -> None:
        story = replace(STILL, lost_at=(600,))
        ups = set()
        for seed in range(20):
            samples = simulate(story, POLICY, seed)
            assert samples[600].running == 0
            ups.add(next(each.second for each in samples[600:] if each.running) - 600)
        assert min(ups) >= 60
        assert 80 < max(ups) <= 92

    def test_a_service_launches_500_tasks_a_minute(self) -> None:
        story = replace(STILL, task_rate=1, rate=1e6, seconds=1200)
        samples = simulate(story, replace(POLICY, tasks_max=5000))
        wanted = next(each.second for each in samples if each.desired > 4000)
        full = next(each.second for each in samples if each.running == 5000)
        assert full - wanted >= (5000 - 100) / 500 * 60

    def test_the_wait_is_that_of_the_oldest_served_in_order(self) -> None:
        story = replace(
            STILL, task_rate=200, seconds=1200, throttled=(Change(600, 700, 0.0),)
        )  # fmt: skip
        samples = simulate(story, POLICY)
        assert samples[699].backlog == pytest.approx(100 * 100)
        assert samples[699].wait_seconds == 99
        # 10,000 at 100 a second more than what comes.
        assert samples[800].backlog == pytest.approx(0, abs=1e-3)
        assert samples[801].wait_seconds == 0


def test_the_results_that_are_written_down_are_those_of_the_model() -> None:
    written = (Path(__file__).parent / "RESULTS.md").read_text()
    assert section(TEMPLATE_RATE) in written, "run make scaling"
