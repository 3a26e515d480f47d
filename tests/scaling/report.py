"""Report of the simulation results as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from tests.bench.report import table
from tests.scaling import kubernetes
from tests.scaling.deployment import RELEASES, DeploymentRules, Release, deploy, rules
from tests.scaling.scenarios import ScenarioOutcome, run_scenario
from tests.scaling.variants import RATES, TEMPLATE_RATE, Row, case_for, variants

_HEADS: Final = (
    "scenario", "tasks", "tasks afterwards", "largest backlog", "longest wait", "cleared after",
    "settled after", "changes", "reversals",
)  # fmt: skip


def markdown() -> str:
    """Run all simulations and return the report."""
    parts = [_INTRODUCTION, *map(section, RATES), _DEFAULTS]
    parts += [f"### By {name}\n\n{_compared(rows)}" for name, rows in variants().items()]
    return "\n\n".join([*parts, deployments(), on_kubernetes()]) + "\n"


def on_kubernetes() -> str:
    """Return the results of the ScaledObject and of its variants."""
    case = case_for(TEMPLATE_RATE)
    policy = kubernetes.chosen(case)
    outcomes = [_cells(run_scenario(scenario, policy)) for scenario in case.scenarios]
    parts = [_KUBERNETES, f"### At {TEMPLATE_RATE}\n\n{table(_HEADS, outcomes)}"]
    parts += [f"### By {name}\n\n{_compared(rows)}" for name, rows in kubernetes.variants().items()]
    return "\n\n".join(parts)


def deployments() -> str:
    """Return the results of deployments of good and bad releases."""
    current = rules()
    without_exits = replace(current, counts_exits=False)
    heads = (
        "new release",
        "result",
        "after",
        "good tasks",
        "result if exits do not count",
        "after",
    )
    rows = [
        (
            release.title,
            *_deployed(release, current),
            *_deployed(release, without_exits)[:2],
        )
        for release in RELEASES
    ]
    return f"{_DEPLOYMENTS}\n\n{table(heads, rows)}"


def _deployed(release: Release, rules: DeploymentRules) -> tuple[str, str, str]:
    outcome = deploy(release, rules)
    if outcome is None:
        return "neither", "", ""
    result = f"rolled back: {outcome.failed_by}" if outcome.failed_by else "completed"
    return result, _time(outcome.seconds), f"{outcome.good_tasks} of 2"


def section(rate: str) -> str:
    """Return the results of all scenarios of a rate under the chosen policy."""
    case = case_for(rate)
    policy, fleet = case.policy, case.fleet
    return (
        f"## {rate}: {fleet.tasks:,} of {fleet.task_vcpu:g} vCPU\n\n"
        f"{policy.backlog_per_task:,.0f} messages per task, {policy.cpu_percent:g} % CPU, "
        f"{policy.tasks_min} to {policy.tasks_max:,} tasks, cooldowns of "
        f"{policy.out_cooldown_seconds} s out and {policy.in_cooldown_seconds} s in.\n\n"
        + table(_HEADS, [_cells(run_scenario(scenario, policy)) for scenario in case.scenarios])
    )


def _compared(rows: Sequence[Row]) -> str:
    return table(
        ("policy", *_HEADS),
        [(row.policy, *_cells(outcome)) for row in rows for outcome in row.outcomes],
    )


def _cells(outcome: ScenarioOutcome) -> tuple[str, ...]:
    return (
        outcome.title,
        f"{outcome.tasks_before:,} to {outcome.tasks_peak:,}",
        f"{outcome.tasks_after:,}",
        f"{outcome.backlog_max:,.0f}",
        _time(outcome.wait_max),
        _time(outcome.backlog_lasted),
        _time(outcome.settled_after),
        str(outcome.changes),
        str(outcome.turns),
    )


def _time(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds} s" if seconds < 120 else f"{seconds / 60:.1f} min"


_INTRODUCTION: Final = """# How the number of tasks follows the traffic

Simulated by `make scaling`, second by second, on the model in
[tests/scaling/model.py](../../tests/scaling/model.py), whose rules are taken from AWS's guides:
metrics arrive two minutes late, a task starts in 60 to 90 s, alarms need 3 minutes to scale out and
15 to scale in. The capacity of the table is unlimited unless a scenario throttles it. Not tested:
the real Application Auto Scaling, which scales in more gradually.

"Reversals" counts changes in the opposite direction to the previous one: a burst has one, an
oscillation many. "Cleared after" is the time from the disturbance until the backlog is empty,
"settled after" the time to the last change of the number of tasks.

![Wait and tasks during a burst, a lost task, a throttled table and four steady hours](charts/scaling.svg)"""  # noqa: E501 - image on one line

_DEFAULTS: Final = """## Rationale for the defaults of the template

Each table varies one parameter of the policy at 10,000/s. Unless the table is about the number of
tasks, up to 100 tasks are allowed, so that the limit does not hide an overshoot.

- **Two policies.** With the backlog policy alone the number of tasks oscillates: without a backlog,
  it scales in below what the rate needs. Both policies must agree to scale in, and the CPU policy
  does not.
- **A backlog per task of 60 s at its planned rate.** A smaller target starts up to four times the
  tasks while the table is throttled, when they do not help, and shortens no wait: the longest wait
  is the five minutes until a burst is detected.
- **A cooldown of 240 s after a scale-out**, because its effect is visible after 120 + 90 s: a
  shorter one adds tasks twice for the same messages.
- **A cooldown of 300 s after a scale-in**, because with less than 180 s one late data point causes
  two scale-ins, below what the rate needs.
- **At most ten tasks**, unless bursts are expected: more tasks would write more than the 40,000
  units per second of a table by default, and the warm throughput of the table limits a burst
  regardless of the number of tasks. `aup-worker plan --burst 10` estimates both.
- Known limits: at a rate between two numbers of tasks, with fluctuations of 20 % from minute to
  minute, one task is started and stopped up to four times an hour; no message waits because of it.
  While the table throttles, the CPU falls before the backlog is visible, and a task may be stopped
  for some minutes.
- **No scale-in protection** (`AUP_ECS_PROTECTION=false`): while messages arrive, every task holds
  some, and no task would be stopped after a burst. A stop drains and loses nothing."""

_DEPLOYMENTS: Final = """## Rolling deployments

A new release replaces a good one of two tasks, on the model in
[tests/scaling/deployment.py](../../tests/scaling/deployment.py), with the health check, the circuit
breaker and the alarms of infra/service.yaml. "Good tasks" are those of the old release at the end,
or when the roll-back begins. AWS does not document whether the circuit breaker counts a task that
exits before its first health check: the last columns assume that it does not."""

_KUBERNETES: Final = """## On Kubernetes

The ScaledObject in infra/kubernetes/keda, on the model of the Horizontal Pod Autoscaler in
[tests/scaling/horizontal.py](../../tests/scaling/horizontal.py), with pods of one CPU. Not tested:
a real cluster.

- **`queueLength` 320000 and at most ten pods**, as on ECS: a smaller target starts up to four
  times the pods while the table is throttled, when they do not help.
- **A trigger on CPU as well**: with the queue alone, the number of pods oscillates every few
  minutes, because a queue that is kept empty asks for one pod.
- **A stabilization window of 300 s for scale-in**, the default of Kubernetes: with a shorter one a
  rate that fluctuates by 20 % starts and stops a pod twice as often, and a longer one only keeps
  pods for longer after a burst.
- **At least one pod**: to scale to zero saves one pod and delays the first message by the start of
  another."""
