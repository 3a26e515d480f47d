"""A model of a rolling deployment on ECS, second by second: health checks, circuit breaker, alarms.

The rules and their sources:

- New tasks are launched up to 200 %, and an old one is drained for each new one that is HEALTHY
  (Amazon ECS developer guide, "Deploy Amazon ECS services by replacing tasks").
- A check that fails within the start period does not count; one that passes ends the period
  ("Determine Amazon ECS task health using container health checks").
- The circuit breaker fails a deployment after `max(3, half of the desired tasks)` consecutive
  failed tasks, and a HEALTHY one resets the count ("How the Amazon ECS deployment circuit breaker
  detects failures"). A task that exits before its first check counts according to AWS's engineers
  (aws/containers-roadmap, issue 1206); the model can also assume that it does not.
- A deployment alarm in ALARM fails the deployment, for a time after the last task that ECS derives
  from the alarms ("How CloudWatch alarms detect Amazon ECS deployment failures"); here their
  longest period of evaluation.
- Alarms see data points a minute late. The delays that ECS adds between restarts are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.infra.stacks import resources, template

LIMIT_SECONDS: Final = 3 * 3600
_START_SECONDS: Final = 75
_MINUTE: Final = 60
_LATE_MINUTES: Final = 1
_BREAKER_MIN: Final = 3


@dataclass(frozen=True, slots=True)
class Release:
    """Behaviour of the tasks of a release, in seconds after the start of the process.

    Attributes:
        starts_after: First answered poll; None if it never happens.
        exits_after: Exit with an error; None for no exit but that of giving up.
        unready_after: Time from which the worker is not ready again; None for never.
        dead_letters: Dead letters per minute of all its tasks.
    """

    title: str
    starts_after: int | None = 5
    exits_after: int | None = None
    unready_after: int | None = None
    dead_letters: int = 0


RELEASES: Final = (
    Release("good"),
    Release("crashes at once", starts_after=None, exits_after=1),
    Release("never started: no network, or writes denied", starts_after=None),
    Release("started, then not ready", unready_after=60),
    Release("started, then crashes each 4 minutes", exits_after=240),
    Release("started, and dead-letters everything", dead_letters=5000),
)


class Alarm(NamedTuple):
    """Deployment alarm: `datapoints` of the last `periods` points of `minutes` are bad."""

    minutes: int
    periods: int
    datapoints: int
    threshold: float


@dataclass(frozen=True, slots=True)
class DeploymentRules:
    """Rules of the template.

    Attributes:
        requires_start: Whether the health check fails until the worker has started.
        counts_exits: Whether the circuit breaker counts tasks that exit before their first check.
        give_up: Seconds after which a worker that has not started exits.
        alarms: Deployment alarms by logical id.
    """

    interval: int
    retries: int
    start_period: int
    give_up: int
    alarms: dict[str, Alarm]
    requires_start: bool = True
    counts_exits: bool = True


def rules() -> DeploymentRules:
    """Return the rules of infra/service.yaml."""
    task = resources("service", "AWS::ECS::TaskDefinition")["TaskDefinition"]
    check = task["ContainerDefinitions"][0]["HealthCheck"]
    parameters = template("service")["Parameters"]
    deployment = resources("service", "AWS::ECS::Service")["Service"]["DeploymentConfiguration"]
    properties = resources("service", "AWS::CloudWatch::Alarm")
    names = [each["Ref"] for each in deployment["Alarms"]["AlarmNames"]]
    return DeploymentRules(
        check["Interval"],
        check["Retries"],
        check["StartPeriod"],
        parameters["GiveUpSeconds"]["Default"],
        {name: _alarm(properties[name], parameters) for name in names},
        requires_start="--started" in check["Command"],
    )


def _alarm(properties: dict[str, Any], parameters: dict[str, Any]) -> Alarm:
    threshold = properties["Threshold"]
    if isinstance(threshold, dict):
        threshold = parameters[threshold["Ref"]]["Default"]
    return Alarm(
        properties["Period"] // _MINUTE,
        properties["EvaluationPeriods"],
        properties["DatapointsToAlarm"],
        threshold,
    )


class DeploymentOutcome(NamedTuple):
    """Result of a deployment.

    Attributes:
        failed_by: `circuit breaker` or an alarm; None if the deployment completed.
        seconds: Time until it completed or failed.
        good_tasks: Smallest number of running tasks of the good release.
    """

    failed_by: str | None
    seconds: int
    good_tasks: int


@dataclass(slots=True)
class _Task:
    started_at: int
    healthy: bool = False


@dataclass(slots=True)
class _Deployment:
    """A deployment under way."""

    release: Release
    rules: DeploymentRules
    desired: int
    old: int
    tasks: list[_Task] = field(default_factory=list)
    failures: int = 0
    unready: bool = False
    stops: int = 0
    points: dict[str, list[float]] = field(default_factory=dict)
    steady_at: int | None = None

    def pass_second(self, second: int) -> None:
        """Launch missing tasks, and stop, check and drain tasks."""
        while len(self.tasks) < self.desired:
            self.tasks.append(_Task(second + _START_SECONDS))
        for task in [each for each in self.tasks if each.started_at <= second]:
            age = second - task.started_at
            if self._exits(age):
                self._stop(task, counts=self.rules.counts_exits)
            elif not task.healthy and self._check_passes(age):
                task.healthy, self.failures = True, 0
            elif not task.healthy and age >= self._unhealthy_after:
                self._stop(task, counts=True)
            self.unready |= self._is_unready(age)
        healthy = sum(each.healthy for each in self.tasks)
        self.old = min(self.old, self.desired - healthy)
        if healthy == self.desired and self.steady_at is None:
            self.steady_at = second

    @property
    def _unhealthy_after(self) -> int:
        return self.rules.start_period + self.rules.retries * self.rules.interval

    def _exits(self, age: int) -> bool:
        starts, exits = self.release.starts_after, self.release.exits_after
        if exits is None and starts is None:
            exits = self.rules.give_up
        return exits is not None and age >= exits

    def _check_passes(self, age: int) -> bool:
        starts = self.release.starts_after if self.rules.requires_start else 0
        return starts is not None and age >= starts and age > 0 and not age % self.rules.interval

    def _is_unready(self, age: int) -> bool:
        # The first summary, with the metric, is written after half a minute.
        starts, unready = self.release.starts_after, self.release.unready_after
        ready = starts is not None and age >= starts and (unready is None or age < unready)
        return not ready and age >= _MINUTE // 2

    def _stop(self, task: _Task, *, counts: bool) -> None:
        self.tasks.remove(task)
        self.stops += 1
        self.failures += counts and not task.healthy

    def pass_minute(self) -> None:
        """Add a data point for each alarm."""
        serving = any(each.healthy for each in self.tasks)
        values = {
            "ReleaseNotReady": float(not self.unready),
            "ReleaseStops": float(self.stops),
            "ReleaseDeadLetters": float(self.release.dead_letters * serving),
        }
        for name, value in values.items():
            self.points.setdefault(name, []).append(value)
        self.unready, self.stops = False, 0

    def failed_by(self) -> str | None:
        """Return what fails the deployment now, if anything does."""
        if self.failures >= max(_BREAKER_MIN, math.ceil(self.desired / 2)):
            return "circuit breaker"
        return next((name for name in self.rules.alarms if self._in_alarm(name)), None)

    def _in_alarm(self, name: str) -> bool:
        alarm = self.rules.alarms[name]
        minutes = self.points.get(name, [])
        minutes = minutes[: len(minutes) - _LATE_MINUTES]
        whole = [
            sum(minutes[since : since + alarm.minutes])
            for since in range(0, len(minutes), alarm.minutes)
        ][-alarm.periods :]
        if name == "ReleaseNotReady":  # a minimum below its threshold
            return sum(value < alarm.threshold for value in whole) >= alarm.datapoints
        return sum(value > alarm.threshold for value in whole) >= alarm.datapoints

    def has_completed(self, second: int) -> bool:
        """Whether no alarm was raised for the time after the last new task was healthy."""
        alarms = self.rules.alarms.values()
        watched = max((each.minutes * each.periods * _MINUTE for each in alarms), default=0)
        return self.steady_at is not None and second >= self.steady_at + watched


def deploy(release: Release, rules: DeploymentRules, desired: int = 2) -> DeploymentOutcome | None:
    """Simulate the deployment of a release over a good one.

    Returns:
        The outcome, or None if the deployment neither completes nor fails within three hours, when
        CloudFormation gives up.
    """
    deployment = _Deployment(release, rules, desired, desired)
    for second in range(LIMIT_SECONDS):
        deployment.pass_second(second)
        if (second + 1) % _MINUTE == 0:
            deployment.pass_minute()
        failed_by = deployment.failed_by()
        if failed_by or deployment.has_completed(second):
            return DeploymentOutcome(failed_by, second, deployment.old)
    return None
