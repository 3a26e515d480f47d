"""The settings against each other, where they may differ from what is wise."""

from __future__ import annotations

from worker.operations.doctor.result import CheckResult, passed, warned
from worker.settings import Settings


def relations(settings: Settings) -> list[CheckResult]:
    """Check what the start does not refuse.

    Args:
        settings: as `load` gives them; what cannot work has ended it there.
    """
    aws = settings.aws
    agree = "no contradiction: calls, leases, drain and stop fit into each other"
    return [
        passed("settings", agree),
        _absence(aws.policy_absence_seconds, settings.unknown_policy_seconds),
    ]


def _absence(believed_seconds: float, patience_seconds: float) -> CheckResult:
    check = "patience with new policies"
    if believed_seconds >= patience_seconds:
        return warned(
            check,
            f"absence is believed for {believed_seconds:g} s, and a message of an unknown version "
            f"is dead after {patience_seconds:g} s",
            "AUP_POLICY_ABSENCE_SECONDS below AUP_UNKNOWN_POLICY_SECONDS",
        )
    return passed(
        check, f"{patience_seconds:g} s, and absence is believed for {believed_seconds:g} s"
    )
