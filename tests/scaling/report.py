"""The outcomes as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tests.bench.report import table
from tests.scaling.scenarios import Outcome, tell
from tests.scaling.variants import RATES, Row, case, variants

_HEADS: Final = (
    "story", "tasks", "afterwards", "most waiting", "longest wait", "backlog lasted",
    "settled after", "changes", "turns",
)  # fmt: skip


def markdown() -> str:
    """Try everything and write it down."""
    parts = [_INTRODUCTION, *map(section, RATES), _CHOICE]
    parts += [f"### By {name}\n\n{_compared(rows)}" for name, rows in variants().items()]
    return "\n\n".join(parts) + "\n"


def section(rate: str) -> str:
    """Tell the stories of one rate under the chosen policy."""
    told = case(rate)
    policy, fleet = told.policy, told.fleet
    return (
        f"## {rate}: {fleet.tasks:,} of {fleet.task_vcpu:g} vCPU\n\n"
        f"{policy.backlog_per_task:,.0f} messages a task, {policy.cpu_percent:g} % CPU, "
        f"{policy.tasks_min} to {policy.tasks_max:,} tasks, cooldowns of "
        f"{policy.out_cooldown_seconds} s out and {policy.in_cooldown_seconds} s in.\n\n"
        + table(_HEADS, [_cells(tell(story, policy)) for story in told.stories])
    )


def _compared(rows: Sequence[Row]) -> str:
    return table(
        ("policy", *_HEADS),
        [(row.policy, *_cells(outcome)) for row in rows for outcome in row.outcomes],
    )


def _cells(outcome: Outcome) -> tuple[str, ...]:
    return (
        outcome.title,
        f"{outcome.tasks_before:,} to {outcome.tasks_most:,}",
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
[tests/scaling/model.py](../../tests/scaling/model.py), which says what it takes from AWS's
guides: a metric is seen two minutes late, a task starts in 60 to 90 s, alarms need 3 minutes to
scale out and 15 to scale in. The table takes whatever the tasks write, unless it is said to be
throttled. What was not tried: the real Application Auto Scaling, which scales in more gently.

"Turns" counts changes the other way than the one before: a burst has one, an oscillation many.
"Settled after" is the time from the disturbance to the last change of the number of tasks.

![wait and tasks through a burst, a lost task, a throttled table, and four steady hours](charts/scaling.svg)"""  # noqa: E501 - an image is one line

_CHOICE: Final = """## What the defaults of the template follow from

Each table changes one thing of the policy at 10,000/s; where tasks are not the point, up to 100 are
allowed, so that nothing hides an overshoot.

- **Two policies.** The backlog alone oscillates: when nothing waits, it scales in below what the
  rate needs. Of two policies both must agree to scale in, and the CPU does not.
- **A backlog per task of 60 s of its planned rate.** Less starts up to four times the tasks while
  the table is throttled, when they are of no use, and makes no wait shorter: the longest is the
  five minutes until a burst is noticed.
- **240 s after a scale-out**, because it shows after 120 + 90 s: with less, tasks are added again
  for the same messages.
- **300 s after a scale-in**, because with less than 180 s it happens twice by one late data point,
  below what the rate needs.
- **Ten tasks at most**, unless bursts are foreseen: more would write more than the 40,000 units a
  second that a table takes by default, and a table that is warm for less than a burst bounds it
  whatever the tasks are. `aup-worker plan --burst 10` says what both need.
- What remains: a rate at the edge of one task more, unsteady by 20 % from minute to minute, moves
  that task to and fro up to four times an hour, and nothing waits for it. While the table
  throttles, the CPU falls before the backlog shows, and a task may be let go for some minutes.
- **No protection from scale-in** (`AUP_ECS_PROTECTION=false`): while messages come, every task
  holds some, and after a burst none would ever be stopped. A stop drains and loses nothing."""
