"""Checks of settings against each other."""

from __future__ import annotations

from worker.operations.doctor.result import CheckResult, passed, warned
from worker.settings import Settings


def relations(settings: Settings) -> list[CheckResult]:
    """Check combinations of settings that are allowed but may be unwise.

    Args:
        settings: valid settings; contradictions are errors when settings are loaded.
    """
    aws = settings.aws
    return [
        passed("settings", "timeouts of calls, leases, drain and stop are consistent"),
        _unknown_policies(aws.policy_absence_seconds, settings.unknown_policy_seconds),
    ]


def _unknown_policies(ttl_seconds: float, wait_seconds: float) -> CheckResult:
    check = "unknown policies"
    if ttl_seconds >= wait_seconds:
        return warned(
            check,
            f"a missing policy is cached for {ttl_seconds:g} s, and its messages are dead-lettered "
            f"after {wait_seconds:g} s",
            "set AUP_POLICY_ABSENCE_SECONDS below AUP_UNKNOWN_POLICY_SECONDS",
        )
    return passed(
        check,
        f"dead-lettered after {wait_seconds:g} s; a missing policy is cached for {ttl_seconds:g} s",
    )
