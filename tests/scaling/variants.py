"""Variants of the chosen policy and their results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from tests.scaling.model import Change, Policy, ScalingPolicy, TrafficScenario
from tests.scaling.scenarios import ScenarioOutcome, chosen_policy, run_scenario, scenarios
from worker.aws.prices import shipped
from worker.planning.sizing import Demand, Fleet, rate_per_second, size

RATES: Final = ("10000/min", "10000/s", "1000000/s")
# The template's defaults are the policy of this rate, with tasks of one vCPU.
TEMPLATE_RATE: Final = "10000/s"
# High enough not to hide an overshoot.
UNBOUNDED: Final = 100
_WAITS_SECONDS: Final = (10, 30, 60, 120, 300, 600)
_OUT_SECONDS: Final = (60, 120, 180, 240, 300)
_IN_SECONDS: Final = (0, 60, 120, 180, 240, 300)
# 60.1 % of one task, 30.05 % of two.
_EDGE: Final = "5400/s"
_TASK_LIMITS: Final = (5, 10, 20, 40)
_WARM: Final = (20_000, 40_000, 100_000)


class Case(NamedTuple):
    """Demand with its tasks, its chosen policy and its scenarios."""

    demand: Demand
    fleet: Fleet
    policy: ScalingPolicy
    steady: TrafficScenario
    unsteady: TrafficScenario
    burst: TrafficScenario
    lost: TrafficScenario
    throttled: TrafficScenario
    day: TrafficScenario

    @property
    def scenarios(self) -> tuple[TrafficScenario, ...]:
        """All scenarios."""
        return self[3:]


def case_for(rate: str) -> Case:
    """Return the case of a rate, with the measured latencies and sizes."""
    measured = shipped().measured
    record_bytes = measured.body_bytes + measured.record_overhead_bytes
    demand = Demand(
        rate_per_second(rate), record_bytes, 0.6, 2.0, measured.sqs_ms, measured.dynamodb_ms
    )
    fleet = size(demand, measured)
    return Case(demand, fleet, chosen_policy(demand, fleet), *scenarios(demand, fleet))


class Row(NamedTuple):
    """Policy with its results."""

    policy: str
    outcomes: Sequence[ScenarioOutcome]


def variants() -> dict[str, list[Row]]:
    """Return the results of policies that differ from the chosen one in one parameter."""
    usual, edge = case_for(TEMPLATE_RATE), case_for(_EDGE)
    free = replace(usual.policy, tasks_max=UNBOUNDED)
    both = (usual.burst, usual.throttled)
    undisturbed = (usual.steady, usual.unsteady)
    return {
        "the acceptable wait, which sets the backlog per task": [
            row(f"{each} s", replace(free, backlog_per_task=each * usual.fleet.planned_rate), both)
            for each in _WAITS_SECONDS
        ],
        "the cooldown after a scale-out": [
            row(f"{each} s", replace(free, out_cooldown_seconds=each), both)
            for each in _OUT_SECONDS
        ],
        "the cooldown after a scale-in": [
            row(f"{each} s", replace(free, in_cooldown_seconds=each), (usual.burst, usual.steady))
            for each in _IN_SECONDS
        ],
        "the maximum number of tasks": [
            row(f"{each}", replace(free, tasks_max=each), both) for each in _TASK_LIMITS
        ],
        "the write limit of the table": [
            row(f"{each:,}/s", usual.policy, (_limited(usual.burst, each),)) for each in _WARM
        ],
        f"the rate: {_EDGE}, between two numbers of tasks": [
            row("backlog and CPU", edge.policy, (edge.steady, edge.unsteady, edge.throttled)),
        ],
        "the CPU policy": [
            row("backlog and CPU", usual.policy, undisturbed),
            row("backlog alone", replace(usual.policy, cpu_percent=None), undisturbed),
        ],
        "the protection of tasks that hold messages": [
            row("off", usual.policy, (usual.burst,)),
            row("on", usual.policy, (replace(usual.burst, protected=True),)),
        ],
    }  # fmt: skip


def _limited(scenario: TrafficScenario, writes: float) -> TrafficScenario:
    return replace(scenario, throttled=(Change(0, scenario.seconds, writes),))


def row(name: str, policy: Policy, scenarios: Sequence[TrafficScenario]) -> Row:
    """Return the results of a policy under its name in the report."""
    return Row(name, [run_scenario(scenario, policy) for scenario in scenarios])
