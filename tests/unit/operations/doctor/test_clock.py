"""Check of the clock."""

from __future__ import annotations

import pytest

from worker.operations.doctor.clock import clock
from worker.operations.doctor.result import CheckStatus

PASS, WARN, FAIL, UNKNOWN = (
    CheckStatus.PASS,
    CheckStatus.WARN,
    CheckStatus.FAIL,
    CheckStatus.UNKNOWN,
)


@pytest.mark.parametrize(
    ("ahead_seconds", "status", "words"),
    [
        (None, UNKNOWN, "had a date"),
        (0.4, PASS, "within 5 s"),
        (-5.0, PASS, "within 5 s"),
        (5.5, WARN, "6 s ahead of AWS:"),
        (-90.0, WARN, "90 s behind AWS:"),
        (299.0, WARN, "recorded_at"),
        (-300.0, FAIL, "AWS rejects"),
        (7200.0, FAIL, "AWS rejects"),
    ],
)
def test_clock_is_checked_by_its_offset(
    ahead_seconds: float | None, status: CheckStatus, words: str
) -> None:
    result = clock(ahead_seconds, 300)
    assert result.status is status
    assert words in result.found
    assert bool(result.remedy) == (status is not PASS)


@pytest.mark.parametrize(
    ("ahead_seconds", "tolerance_seconds", "status"),
    [(-61, 60, FAIL), (61, 60, FAIL), (60, 60, WARN), (9, 0, WARN), (4, 0, PASS)],
)
def test_clock_offset_that_prevents_readiness_fails(
    ahead_seconds: float, tolerance_seconds: float, status: CheckStatus
) -> None:
    result = clock(ahead_seconds, tolerance_seconds)
    assert result.status is status
    assert ("AUP_CLOCK_SKEW_SECONDS" in result.found) == (status is FAIL)
