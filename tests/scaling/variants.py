"""Policies beside the chosen one, and what becomes of the service under each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from tests.scaling.model import Change, Policy, Story
from tests.scaling.scenarios import Outcome, chosen_policy, stories, tell
from worker.aws.prices import shipped
from worker.planning.sizing import Demand, Fleet, rate_per_second, size

RATES: Final = ("10000/min", "10000/s", "1000000/s")
# The template's defaults are the policy of this rate, whose tasks have a whole vCPU.
TEMPLATE_RATE: Final = "10000/s"
# So high that it hides no policy that overshoots.
_UNBOUNDED: Final = 100
_WAITS_SECONDS: Final = (10, 30, 60, 120, 300, 600)
_OUT_SECONDS: Final = (60, 120, 180, 240, 300)
_IN_SECONDS: Final = (0, 60, 120, 180, 240, 300)
# 60.1 % of one task, 30.05 % of two.
_EDGE: Final = "5400/s"
_MOST: Final = (5, 10, 20, 40)
_WARM: Final = (20_000, 40_000, 100_000)


class Case(NamedTuple):
    """A demand, the tasks for it, the chosen policy, and what is done to it."""

    demand: Demand
    fleet: Fleet
    policy: Policy
    steady: Story
    unsteady: Story
    burst: Story
    lost: Story
    throttled: Story
    day: Story

    @property
    def stories(self) -> tuple[Story, ...]:
        """All that is done to it."""
        return self[3:]


def case(rate: str) -> Case:
    """Give the case of a rate, at the usual latencies and sizes."""
    measured = shipped().measured
    record_bytes = measured.body_bytes + measured.record_bytes_beside_body
    demand = Demand(
        rate_per_second(rate), record_bytes, 0.6, 2.0, measured.sqs_ms, measured.dynamodb_ms
    )
    fleet = size(demand, measured)
    return Case(demand, fleet, chosen_policy(demand, fleet), *stories(demand, fleet))


class Row(NamedTuple):
    """One policy and what came of it."""

    policy: str
    outcomes: Sequence[Outcome]


def variants() -> dict[str, list[Row]]:
    """Try policies that differ from the chosen one in one thing each."""
    usual, edge = case(TEMPLATE_RATE), case(_EDGE)
    free = replace(usual.policy, tasks_max=_UNBOUNDED)
    hit = (usual.burst, usual.throttled)
    calm = (usual.steady, usual.unsteady)
    return {
        "the acceptable wait, which sets the backlog per task": [
            _row(f"{each} s", replace(free, backlog_per_task=each * usual.fleet.planned_rate), hit)
            for each in _WAITS_SECONDS
        ],
        "the cooldown after a scale-out": [
            _row(f"{each} s", replace(free, out_cooldown_seconds=each), hit)
            for each in _OUT_SECONDS
        ],
        "the cooldown after a scale-in": [
            _row(f"{each} s", replace(free, in_cooldown_seconds=each), (usual.burst, usual.steady))
            for each in _IN_SECONDS
        ],
        "the most tasks": [
            _row(f"{each}", replace(free, tasks_max=each), hit) for each in _MOST
        ],
        "what the table takes": [
            _row(f"{each:,}/s", usual.policy, (_limited(usual.burst, each),)) for each in _WARM
        ],
        f"the rate: {_EDGE}, where one task more or less decides": [
            _row("backlog and CPU", edge.policy, (edge.steady, edge.unsteady, edge.throttled)),
        ],
        "the CPU as second policy": [
            _row("backlog and CPU", usual.policy, calm),
            _row("backlog alone", replace(usual.policy, cpu_percent=None), calm),
        ],
        "the protection of tasks that hold messages": [
            _row("off", usual.policy, (usual.burst,)),
            _row("on", usual.policy, (replace(usual.burst, protected=True),)),
        ],
    }  # fmt: skip


def _limited(story: Story, writes: float) -> Story:
    return replace(story, throttled=(Change(0, story.seconds, writes),))


def _row(name: str, policy: Policy, told: Sequence[Story]) -> Row:
    return Row(name, [tell(story, policy) for story in told])
