"""A model of the service under auto scaling, second by second: backlog, tasks, alarms, cooldowns.

Messages are continuous, tasks are whole numbers. The rules and their sources:

- A target tracking policy scales out after 3 one-minute data points above its target, and in after
  15 below nine tenths of it, to `ceil(tasks * metric / target)`. With several policies, the largest
  number of tasks applies, and all must agree to scale in (Application Auto Scaling user guide,
  "Target tracking scaling policies" and "Multiple scaling policies").
- During the cooldown after a scale-out, only larger scale-outs happen; during the cooldown after a
  scale-in, no scale-in happens (the same guide, "Define cooldown periods").
- Data points arrive two minutes late, a task takes 60 to 90 s until its first poll, and a service
  launches at most 500 tasks a minute (Amazon ECS developer guide, "Service quotas").
- ECS does not stop protected tasks, and replaces lost ones ("Task scale-in protection").
"""

from __future__ import annotations

import heapq
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

MINUTE_SECONDS: Final = 60
OUT_POINTS: Final = 3
IN_POINTS: Final = 15
_IN_SHARE: Final = 0.9
_SEEN_AFTER_SECONDS: Final = 120
_START_SECONDS: Final = (60, 90)
_LAUNCHES_PER_SECOND: Final = 500 / 60


class Scaler(Protocol):
    """What sets the number of tasks."""

    @property
    def desired(self) -> int:
        """Desired number of tasks."""

    def observe(self, second: int, backlog: float, running: int, cpu: float) -> None:
        """Note the state at the end of a second, and decide if it is time to."""


class Policy(Protocol):
    """Scaling parameters of a platform."""

    @property
    def start_seconds(self) -> tuple[int, int]:
        """Shortest and longest time until the first poll of a task."""

    def scaler(self, tasks: int) -> Scaler:
        """Return a scaler with these parameters for a number of running tasks."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """Scaling parameters of the template.

    Attributes:
        backlog_per_task: Target of visible messages per running task.
        cpu_percent: Target of the CPU utilization; None for no such policy.
    """

    backlog_per_task: float
    cpu_percent: float | None
    tasks_min: int
    tasks_max: int
    out_cooldown_seconds: int
    in_cooldown_seconds: int

    @property
    def start_seconds(self) -> tuple[int, int]:
        """Shortest and longest time until the first poll of a task."""
        return _START_SECONDS

    def scaler(self, tasks: int) -> Scaler:
        """Return Application Auto Scaling with these parameters."""
        return _Scaler(self, tasks)


class Change(NamedTuple):
    """Factor or limit that applies for a period in seconds."""

    since: int
    until: int
    value: float


@dataclass(frozen=True, slots=True)
class TrafficScenario:
    """Traffic and failures of a service.

    Attributes:
        rate: Usual arrivals in messages per second.
        task_rate: Messages per second of a task at full CPU.
        bursts: Factors on `rate`.
        throttled: Limits of the table in messages per second.
        lost_at: Times at which a task is lost.
        protected: Whether tasks are protected while messages arrive (`AUP_ECS_PROTECTION`).
        disturbed_at: Time of the disturbance, if there is a single one.
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

    def arrivals(self) -> list[float]:
        """Return the number of arriving messages for each second."""
        rates = [self.rate] * self.seconds
        for burst in self.bursts:
            for second in range(burst.since, min(burst.until, self.seconds)):
                rates[second] *= burst.value
        return rates

    def table_limits(self) -> list[float]:
        """Return the limit of the table for each second."""
        limits = [math.inf] * self.seconds
        for throttling in self.throttled:
            for second in range(throttling.since, min(throttling.until, self.seconds)):
                limits[second] = min(limits[second], throttling.value)
        return limits


class ModelSample(NamedTuple):
    """State of the model in one second.

    Attributes:
        backlog: Visible messages.
        wait_seconds: Age of the oldest message, assuming first in, first out.
        cpu: Utilization of the running tasks, from 0 to 1.
    """

    second: int
    arrivals: float
    backlog: float
    wait_seconds: int
    running: int
    desired: int
    cpu: float


@dataclass(slots=True)
class _Tracking:
    """Target tracking policy with the data points received so far."""

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
    """Application Auto Scaling with all policies of a service."""

    def __init__(self, policy: ScalingPolicy, tasks: int) -> None:
        self._policy = policy
        self._backlog = _Tracking(policy.backlog_per_task)
        self._cpu = None if policy.cpu_percent is None else _Tracking(policy.cpu_percent / 100)
        self._late: list[tuple[int, float, float]] = []
        self._out_until = self._in_until = 0
        self._before_out = tasks
        self._busy: list[float] = []
        self.desired = tasks

    def observe(self, second: int, backlog: float, running: int, cpu: float) -> None:
        """Add the data points of a minute at its end, and decide by those that have arrived."""
        self._busy.append(cpu)
        if (second + 1) % MINUTE_SECONDS == 0:
            point = backlog / max(1, running), sum(self._busy) / len(self._busy)
            self._late.append((second + _SEEN_AFTER_SECONDS, *point))
            self._busy.clear()
            self._decide(second)

    def _decide(self, second: int) -> None:
        """Set the desired number of tasks from the data points that have arrived."""
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
    """ECS tasks, started and stopped to match the desired number."""

    def __init__(self, running: int, chance: random.Random, start_seconds: tuple[int, int]) -> None:
        self.running = running
        self._start_seconds = start_seconds
        self._starting: list[float] = []
        self._chance = chance
        self._launches = 0.0

    def follow(self, second: int, desired: int, *, protected: bool) -> None:
        """Simulate one second: tasks become ready, are launched or are stopped."""
        while self._starting and self._starting[0] <= second:
            heapq.heappop(self._starting)
            self.running += 1
        missing = desired - self.running - len(self._starting)
        self._launches = min(self._launches + _LAUNCHES_PER_SECOND, 100.0)
        if missing > 0:
            launched = min(missing, int(self._launches))
            self._launches -= launched
            for _ in range(launched):
                heapq.heappush(self._starting, second + self._chance.uniform(*self._start_seconds))
        elif missing < 0:
            stopped = min(len(self._starting), -missing)
            self._starting = sorted(self._starting)[: len(self._starting) - stopped]
            if not protected:
                self.running += missing + stopped

    def lose(self) -> None:
        """Remove a running task."""
        self.running = max(0, self.running - 1)


class _Queue:
    """Waiting messages, served in order."""

    def __init__(self) -> None:
        self.backlog = 0.0
        self._arrived: list[float] = []
        self._served = 0.0
        self._oldest = 0

    def pass_second(self, arrivals: float, limit: float) -> float:
        """Simulate one second: add arrivals and serve up to `limit` messages.

        Returns:
            The number of messages served.
        """
        served = min(self.backlog + arrivals, limit)
        self._arrived.append((self._arrived[-1] if self._arrived else 0.0) + arrivals)
        self._served += served
        self.backlog += arrivals - served
        # Ignore rounding errors of the sums.
        while (
            self._oldest < len(self._arrived) and self._arrived[self._oldest] <= self._served + 1e-3
        ):
            self._oldest += 1
        return served

    @property
    def wait_seconds(self) -> int:
        """Age of the oldest message in seconds."""
        return max(0, len(self._arrived) - 1 - self._oldest)


def simulate(scenario: TrafficScenario, policy: Policy, seed: int = 0) -> list[ModelSample]:
    """Simulate a scenario.

    Args:
        scenario: Traffic and failures.
        policy: Scaling policy of the service.
        seed: Seed of the start times of tasks.

    Returns:
        One sample for every second.
    """
    scaler = policy.scaler(scenario.tasks)
    tasks = _Tasks(scenario.tasks, random.Random(seed), policy.start_seconds)
    queue = _Queue()
    samples: list[ModelSample] = []
    for second, (arrivals, table_limit) in enumerate(
        zip(scenario.arrivals(), scenario.table_limits(), strict=True)
    ):
        protected = scenario.protected and (arrivals > 0 or queue.backlog > 0)
        tasks.follow(second, scaler.desired, protected=protected)
        for _ in range(scenario.lost_at.count(second)):
            tasks.lose()
        capacity = tasks.running * scenario.task_rate
        served = queue.pass_second(arrivals, min(capacity, table_limit))
        cpu = served / capacity if capacity else 0.0
        samples.append(
            ModelSample(
                second, arrivals, queue.backlog, queue.wait_seconds,
                tasks.running, scaler.desired, cpu,
            )
        )  # fmt: skip
        scaler.observe(second, queue.backlog, tasks.running, cpu)
    return samples
