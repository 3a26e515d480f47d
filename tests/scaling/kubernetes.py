"""The chosen policy on Kubernetes, and the policies that differ from it in one parameter."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tests.scaling.horizontal import HorizontalPolicy
from tests.scaling.variants import TEMPLATE_RATE, UNBOUNDED, Case, Row, case_for, row

IN_WINDOW_SECONDS: Final = 300
_WAITS_SECONDS: Final = (10, 30, 60, 120, 300)
_WINDOWS_SECONDS: Final = (15, 60, 120, 300, 600)


def chosen(case: Case) -> HorizontalPolicy:
    """Return the policy for a case: that of the template, for pods."""
    return HorizontalPolicy(
        queue_length=case.policy.backlog_per_task,
        cpu_percent=case.policy.cpu_percent,
        pods_min=case.policy.tasks_min,
        pods_max=case.policy.tasks_max,
        in_window_seconds=IN_WINDOW_SECONDS,
    )


def variants() -> dict[str, list[Row]]:
    """Return the results of policies that differ from the chosen one in one parameter."""
    usual = case_for(TEMPLATE_RATE)
    free = replace(chosen(usual), pods_max=UNBOUNDED)
    burst = (usual.burst, usual.throttled)
    undisturbed = (usual.steady, usual.unsteady)
    return {
        "the acceptable wait, which sets `queueLength`": [
            row(f"{each} s", replace(free, queue_length=each * usual.fleet.planned_rate), burst)
            for each in _WAITS_SECONDS
        ],
        "the stabilization window of a scale-in": [
            row(
                f"{each} s",
                replace(free, in_window_seconds=each),
                (usual.burst, usual.unsteady),
            )
            for each in _WINDOWS_SECONDS
        ],
        "the trigger on CPU": [
            row("queue and CPU", chosen(usual), undisturbed),
            row("queue alone", replace(chosen(usual), cpu_percent=None), undisturbed),
        ],
    }
