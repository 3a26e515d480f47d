"""What is done to the model of the service, and how it comes through."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from tests.scaling.model import Change, Policy, Sample, Story, simulate
from worker.planning.sizing import IN_COOLDOWN_SECONDS, OUT_COOLDOWN_SECONDS, Demand, Fleet

HOUR_SECONDS: Final = 3600
DISTURBED_AT: Final = HOUR_SECONDS
_TEN_MINUTES: Final = 600
_STORY_SECONDS: Final = 4 * HOUR_SECONDS
_DAY_SECONDS: Final = 24 * HOUR_SECONDS
_BURST: Final = 10.0
_THROTTLED_TO: Final = 0.1
# From a tenth of the rate at night to the whole rate at noon, in steps of ten minutes.
_NIGHT: Final = 0.1
_NOISE: Final = 0.2


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the service came through a story.

    Attributes:
        wait_max: how old a message became at most, in seconds.
        backlog_lasted: seconds from the disturbance until all that waited was recorded.
        settled_after: seconds from the disturbance to the last change of the number of tasks.
        changes: of the desired number of tasks.
        turns: how often a change went the other way than the one before.
    """

    title: str
    tasks_before: int
    tasks_most: int
    tasks_after: int
    backlog_max: float
    wait_max: int
    backlog_lasted: int | None
    settled_after: int | None
    changes: int
    turns: int


def chosen_policy(demand: Demand, fleet: Fleet) -> Policy:
    """Give the policy for a demand; the template's defaults are that of a task of one vCPU."""
    return Policy(
        backlog_per_task=fleet.backlog_per_task,
        cpu_percent=100 * demand.utilisation,
        tasks_min=1,
        tasks_max=fleet.tasks_max,
        out_cooldown_seconds=OUT_COOLDOWN_SECONDS,
        in_cooldown_seconds=IN_COOLDOWN_SECONDS,
    )


def stories(demand: Demand, fleet: Fleet) -> list[Story]:
    """Give every story for this demand."""
    quiet = Story("4 h, steady", demand.rate, fleet.task_rate, _STORY_SECONDS, fleet.tasks)
    hit = replace(quiet, disturbed_at=DISTURBED_AT)
    after = DISTURBED_AT + _TEN_MINUTES
    return [
        quiet,
        replace(quiet, title="4 h, unsteady by 20 %", bursts=noise(_STORY_SECONDS)),
        replace(hit, title="burst x 10, 10 min", bursts=(Change(DISTURBED_AT, after, _BURST),)),
        replace(hit, title="one task lost", lost_at=(DISTURBED_AT,)),
        replace(
            hit,
            title="table throttled to 1/10, 10 min",
            throttled=(Change(DISTURBED_AT, after, _THROTTLED_TO * demand.rate),),
        ),
        replace(
            quiet, title="a day, from 1/10 to all", seconds=_DAY_SECONDS,
            tasks=max(1, math.ceil(fleet.tasks * _NIGHT)), bursts=day(),
        ),
    ]  # fmt: skip


def noise(seconds: int, seed: int = 0) -> tuple[Change, ...]:
    """Give factors for each minute."""
    chance = random.Random(seed)
    return tuple(
        Change(since, since + 60, chance.uniform(1 - _NOISE, 1 + _NOISE))
        for since in range(0, seconds, 60)
    )


def day() -> tuple[Change, ...]:
    """Give the factors of a day that begins at its quietest."""
    return tuple(
        Change(
            since,
            since + _TEN_MINUTES,
            _NIGHT + (1 - _NIGHT) * (1 - math.cos(2 * math.pi * since / _DAY_SECONDS)) / 2,
        )
        for since in range(0, _DAY_SECONDS, _TEN_MINUTES)
    )


def tell(story: Story, policy: Policy, seed: int = 0) -> Outcome:
    """Let a story happen and sum it up."""
    return outcome(story, simulate(story, policy, seed))


def outcome(story: Story, samples: Sequence[Sample]) -> Outcome:
    """Sum up what happened.

    Args:
        story: what was told.
        samples: one for each second of it.
    """
    steps = [
        (later.second, later.desired - former.desired)
        for former, later in pairwise(samples)
        if later.desired != former.desired
    ]
    waited = [each.second for each in samples if each.wait_seconds > 0]
    began = story.disturbed_at
    return Outcome(
        title=story.title,
        tasks_before=story.tasks,
        tasks_most=max(each.running for each in samples),
        tasks_after=samples[-1].running,
        backlog_max=max(each.backlog for each in samples),
        wait_max=max(each.wait_seconds for each in samples),
        backlog_lasted=_since(began, waited),
        settled_after=_since(began, [second for second, _ in steps]),
        changes=len(steps),
        turns=sum((one > 0) != (other > 0) for (_, one), (_, other) in pairwise(steps)),
    )


def _since(began: int | None, seconds: Sequence[int]) -> int | None:
    """Give how long after the beginning the last one was."""
    if began is None:
        return None
    return max(0, seconds[-1] + 1 - began) if seconds else 0
