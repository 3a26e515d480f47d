"""A model of the service under auto scaling, second by second: backlog, tasks, alarms, cooldowns.

Messages are a fluid, tasks are whole. What is modelled, and where it is written:

- A target tracking policy scales out after 3 data points of a minute above its target, and in after
  15 below nine tenths of it, to `ceil(tasks * metric / target)`; of several policies the one that
  wants most tasks decides, and all must agree to scale in (Application Auto Scaling user guide,
  "Target tracking scaling policies" and "Multiple scaling policies").
- In the cooldown after a scale-out only a larger one happens; in that after a scale-in, none
  inwards (the same guide, "Define cooldown periods").
- A minute's data points are seen two minutes late, a task takes 60 to 90 s to its first poll, and a
  service launches 500 tasks a minute at most (Amazon ECS developer guide, "Service quotas").
- ECS stops no task that is protected, and replaces one that is lost ("Task scale-in protection").
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

MINUTE_SECONDS: Final = 60
OUT_POINTS: Final = 3
IN_POINTS: Final = 15
_IN_SHARE: Final = 0.9
_SEEN_AFTER_SECONDS: Final = 120
_START_SECONDS: Final = (60, 90)
_LAUNCHES_PER_SECOND: Final = 500 / 60


@dataclass(frozen=True, slots=True)
class Policy:
    """What the template's parameters say.

    Attributes:
        backlog_per_task: target of the policy on visible messages over running tasks.
        cpu_percent: target of the policy on the service's CPU; None for no such policy.
    """

    backlog_per_task: float
    cpu_percent: float | None
    tasks_min: int
    tasks_max: int
    out_cooldown_seconds: int
    in_cooldown_seconds: int


class Change(NamedTuple):
    """A factor or a limit that holds for a while."""

    since: int
    until: int
    value: float


@dataclass(frozen=True, slots=True)
class Story:
    """What happens to a service.

    Attributes:
        rate: messages a second that arrive when nothing is unusual.
        task_rate: messages a second that a task takes at full CPU.
        bursts: factors on `rate`.
        throttled: messages a second that the table takes at most.
        lost_at: when a task is lost.
        protected: whether a task is protected while messages come, as `AUP_ECS_PROTECTION` asks.
        disturbed_at: when something happens, if it happens at once.
    """

    title: str
    rate: float
    task_rate: float
    seconds: int
    tasks: int
    bursts: tuple[Change, ...] = ()
    throttled: tuple[Change, ...] = ()
    lost_at: tuple[int, ...] = ()
    protected: bool = False
    disturbed_at: int | None = None

    def arriving(self) -> list[float]:
        """Give the messages that arrive, by second."""
        rates = [self.rate] * self.seconds
        for burst in self.bursts:
            for second in range(burst.since, min(burst.until, self.seconds)):
                rates[second] *= burst.value
        return rates

    def table_takes(self) -> list[float]:
        """Give the messages that the table takes at most, by second."""
        limits = [math.inf] * self.seconds
        for throttling in self.throttled:
            for second in range(throttling.since, min(throttling.until, self.seconds)):
                limits[second] = min(limits[second], throttling.value)
        return limits


class Sample(NamedTuple):
    """The service in one second.

    Attributes:
        backlog: visible messages.
        wait_seconds: how old the oldest of them is, were they served in order.
        cpu: share of the running tasks' CPU that is busy.
    """

    second: int
    arriving: float
    backlog: float
    wait_seconds: int
    running: int
    desired: int
    cpu: float


@dataclass(slots=True)
class _Tracking:
    """One target tracking policy, with the data points that it has seen."""

    target: float
    points: list[float] = field(default_factory=list)

    def wants(self, tasks: int) -> int:
        return math.ceil(tasks * self.points[-1] / self.target - 1e-9)

    @property
    def high(self) -> bool:
        last = self.points[-OUT_POINTS:]
        return len(last) == OUT_POINTS and min(last) > self.target

    @property
    def low(self) -> bool:
        last = self.points[-IN_POINTS:]
        return len(last) == IN_POINTS and max(last) < _IN_SHARE * self.target


class _Scaler:
    """Application Auto Scaling with all policies of one service."""

    def __init__(self, policy: Policy, tasks: int) -> None:
        self._policy = policy
        self._backlog = _Tracking(policy.backlog_per_task)
        self._cpu = None if policy.cpu_percent is None else _Tracking(policy.cpu_percent / 100)
        self._late: list[tuple[int, float, float]] = []
        self._out_until = self._in_until = 0
        self._before_out = tasks
        self.desired = tasks

    def note(self, second: int, backlog_per_task: float, cpu: float) -> None:
        """Take a minute's data points, which are seen later."""
        self._late.append((second + _SEEN_AFTER_SECONDS, backlog_per_task, cpu))

    def decide(self, second: int) -> None:
        """Look at what is seen by now, and set how many tasks there should be."""
        while self._late and self._late[0][0] <= second:
            _, backlog, cpu = self._late.pop(0)
            self._backlog.points.append(backlog)
            if self._cpu is not None:
                self._cpu.points.append(cpu)
        policies = [each for each in (self._backlog, self._cpu) if each is not None]
        if any(each.high for each in policies):
            self._scale_out(second, [each for each in policies if each.high])
        elif all(each.low for each in policies) and second >= self._in_until:
            self._scale_in(second, policies)

    def _scale_out(self, second: int, policies: Sequence[_Tracking]) -> None:
        cooling = second < self._out_until
        base = self._before_out if cooling else self.desired
        wanted = self._bounded(max(each.wants(base) for each in policies))
        if wanted > self.desired:
            self._before_out = base
            self.desired = wanted
            if not cooling:
                self._out_until = second + self._policy.out_cooldown_seconds

    def _scale_in(self, second: int, policies: Sequence[_Tracking]) -> None:
        wanted = self._bounded(max(each.wants(self.desired) for each in policies))
        if wanted < self.desired:
            self.desired = wanted
            self._in_until = second + self._policy.in_cooldown_seconds

    def _bounded(self, tasks: int) -> int:
        return max(self._policy.tasks_min, min(self._policy.tasks_max, tasks))


class _Tasks:
    """The tasks that ECS runs, starts and stops to match the desired number."""

    def __init__(self, running: int, chance: random.Random) -> None:
        self.running = running
        self._starting: list[float] = []
        self._chance = chance
        self._launches = 0.0

    def follow(self, second: int, desired: int, *, protected: bool) -> None:
        """Let a second pass: tasks become ready, are launched, or are stopped."""
        while self._starting and self._starting[0] <= second:
            heapq.heappop(self._starting)
            self.running += 1
        missing = desired - self.running - len(self._starting)
        self._launches = min(self._launches + _LAUNCHES_PER_SECOND, 100.0)
        if missing > 0:
            launched = min(missing, int(self._launches))
            self._launches -= launched
            for _ in range(launched):
                heapq.heappush(self._starting, second + self._chance.uniform(*_START_SECONDS))
        elif missing < 0:
            stopped = min(len(self._starting), -missing)
            self._starting = sorted(self._starting)[: len(self._starting) - stopped]
            if not protected:
                self.running += missing + stopped

    def lose(self) -> None:
        """Lose a running task."""
        self.running = max(0, self.running - 1)


class _Queue:
    """What waits, served in order."""

    def __init__(self) -> None:
        self.backlog = 0.0
        self._came: list[float] = []
        self._served = 0.0
        self._oldest = 0

    def pass_second(self, arriving: float, most: float) -> float:
        """Let messages arrive, and serve as many as can be.

        Returns:
            How many were served.
        """
        served = min(self.backlog + arriving, most)
        self._came.append((self._came[-1] if self._came else 0.0) + arriving)
        self._served += served
        self.backlog += arriving - served
        # Sums of fractions: what is left of the last message is none.
        while self._oldest < len(self._came) and self._came[self._oldest] <= self._served + 1e-3:
            self._oldest += 1
        return served

    @property
    def wait_seconds(self) -> int:
        """How old the oldest message is."""
        return max(0, len(self._came) - 1 - self._oldest)


def simulate(story: Story, policy: Policy, seed: int = 0) -> list[Sample]:
    """Let a story happen to the service.

    Args:
        story: what happens.
        policy: by which the service is scaled.
        seed: of the tasks' times to start.

    Returns:
        A sample for every second.
    """
    scaler = _Scaler(policy, story.tasks)
    tasks = _Tasks(story.tasks, random.Random(seed))
    queue = _Queue()
    samples: list[Sample] = []
    busy: list[float] = []
    for second, (arriving, taken) in enumerate(
        zip(story.arriving(), story.table_takes(), strict=True)
    ):
        protected = story.protected and (arriving > 0 or queue.backlog > 0)
        tasks.follow(second, scaler.desired, protected=protected)
        for _ in range(story.lost_at.count(second)):
            tasks.lose()
        capacity = tasks.running * story.task_rate
        served = queue.pass_second(arriving, min(capacity, taken))
        busy.append(served / capacity if capacity else 0.0)
        samples.append(
            Sample(
                second, arriving, queue.backlog, queue.wait_seconds,
                tasks.running, scaler.desired, busy[-1],
            )
        )  # fmt: skip
        if (second + 1) % MINUTE_SECONDS == 0:
            scaler.note(second, queue.backlog / max(1, tasks.running), sum(busy) / len(busy))
            busy.clear()
            scaler.decide(second)
    return samples
