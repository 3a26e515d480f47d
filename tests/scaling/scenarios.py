"""Scenarios of the model and their results."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from tests.scaling.model import (
    Change,
    ModelSample,
    Policy,
    ScalingPolicy,
    TrafficScenario,
    simulate,
)
from worker.planning.sizing import IN_COOLDOWN_SECONDS, OUT_COOLDOWN_SECONDS, Demand, Fleet

HOUR_SECONDS: Final = 3600
DISTURBED_AT: Final = HOUR_SECONDS
_TEN_MINUTES: Final = 600
_SCENARIO_SECONDS: Final = 4 * HOUR_SECONDS
_DAY_SECONDS: Final = 24 * HOUR_SECONDS
_BURST: Final = 10.0
_THROTTLED_TO: Final = 0.1
# From a tenth of the rate at night to the full rate at noon, in steps of ten minutes.
_NIGHT: Final = 0.1
_NOISE: Final = 0.2


@dataclass(frozen=True, slots=True)
class ScenarioOutcome:
    """Result of a scenario.

    Attributes:
        wait_max: Longest wait of a message in seconds.
        backlog_lasted: Seconds from the disturbance until the backlog was cleared.
        settled_after: Seconds from the disturbance to the last change of the number of tasks.
        changes: Number of changes of the desired number of tasks.
        turns: Number of changes in the opposite direction to the previous one.
    """

    title: str
    tasks_before: int
    tasks_peak: int
    tasks_after: int
    backlog_max: float
    wait_max: int
    backlog_lasted: int | None
    settled_after: int | None
    changes: int
    turns: int


def chosen_policy(demand: Demand, fleet: Fleet) -> ScalingPolicy:
    """Return the policy for a demand; for tasks of one vCPU, the template's defaults."""
    return ScalingPolicy(
        backlog_per_task=fleet.backlog_per_task,
        cpu_percent=100 * demand.utilisation,
        tasks_min=1,
        tasks_max=fleet.tasks_max,
        out_cooldown_seconds=OUT_COOLDOWN_SECONDS,
        in_cooldown_seconds=IN_COOLDOWN_SECONDS,
    )


def scenarios(demand: Demand, fleet: Fleet) -> list[TrafficScenario]:
    """Return all scenarios for a demand."""
    steady = TrafficScenario(
        "4 h, steady", demand.rate, fleet.task_rate, _SCENARIO_SECONDS, fleet.tasks
    )
    disturbed = replace(steady, disturbed_at=DISTURBED_AT)
    after = DISTURBED_AT + _TEN_MINUTES
    return [
        steady,
        replace(steady, title="4 h, fluctuating by 20 %", bursts=noise(_SCENARIO_SECONDS)),
        replace(
            disturbed,
            title="burst x 10, 10 min",
            bursts=(Change(DISTURBED_AT, after, _BURST),),
        ),
        replace(disturbed, title="one task lost", lost_at=(DISTURBED_AT,)),
        replace(
            disturbed,
            title="table throttled to 1/10, 10 min",
            throttled=(Change(DISTURBED_AT, after, _THROTTLED_TO * demand.rate),),
        ),
        replace(
            steady, title="a day, from 1/10 to the full rate", seconds=_DAY_SECONDS,
            tasks=max(1, math.ceil(fleet.tasks * _NIGHT)), bursts=day(),
        ),
    ]  # fmt: skip


def noise(seconds: int, seed: int = 0) -> tuple[Change, ...]:
    """Return a random factor for each minute."""
    chance = random.Random(seed)
    return tuple(
        Change(since, since + 60, chance.uniform(1 - _NOISE, 1 + _NOISE))
        for since in range(0, seconds, 60)
    )


def day() -> tuple[Change, ...]:
    """Return the factors of a day that starts at its minimum."""
    return tuple(
        Change(
            since,
            since + _TEN_MINUTES,
            _NIGHT + (1 - _NIGHT) * (1 - math.cos(2 * math.pi * since / _DAY_SECONDS)) / 2,
        )
        for since in range(0, _DAY_SECONDS, _TEN_MINUTES)
    )


def run_scenario(scenario: TrafficScenario, policy: Policy, seed: int = 0) -> ScenarioOutcome:
    """Simulate a scenario and return its result."""
    return summarize(scenario, simulate(scenario, policy, seed))


def summarize(scenario: TrafficScenario, samples: Sequence[ModelSample]) -> ScenarioOutcome:
    """Return the result of a simulated scenario.

    Args:
        scenario: Simulated scenario.
        samples: One sample for each second of it.
    """
    steps = [
        (later.second, later.desired - former.desired)
        for former, later in pairwise(samples)
        if later.desired != former.desired
    ]
    waited = [each.second for each in samples if each.wait_seconds > 0]
    began = scenario.disturbed_at
    return ScenarioOutcome(
        title=scenario.title,
        tasks_before=scenario.tasks,
        tasks_peak=max(each.running for each in samples),
        tasks_after=samples[-1].running,
        backlog_max=max(each.backlog for each in samples),
        wait_max=max(each.wait_seconds for each in samples),
        backlog_lasted=_since(began, waited),
        settled_after=_since(began, [second for second, _ in steps]),
        changes=len(steps),
        turns=sum((one > 0) != (other > 0) for (_, one), (_, other) in pairwise(steps)),
    )


def _since(began: int | None, seconds: Sequence[int]) -> int | None:
    """Return the time from the disturbance to the last of `seconds`."""
    if began is None:
        return None
    return max(0, seconds[-1] + 1 - began) if seconds else 0
