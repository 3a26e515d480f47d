"""Results of checks."""

from __future__ import annotations

import pytest

from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
)
from worker.operations.doctor.result import CheckStatus, failed, from_error, passed

FAIL, UNKNOWN = CheckStatus.FAIL, CheckStatus.UNKNOWN


def test_result_is_one_line_with_its_remedy() -> None:
    assert str(failed("queue: type", "FIFO", "set AUP_QUEUE")) == "queue: type: FIFO; set AUP_QUEUE"
    assert str(passed("queue: type", "standard")) == "queue: type: standard"


@pytest.mark.parametrize(
    ("error", "needed", "status"),
    [
        (AWSThrottledError("x"), True, UNKNOWN),
        (AWSUnavailableError("x"), True, UNKNOWN),
        (AWSDeniedError("x"), True, FAIL),
        (AWSDeniedError("x"), False, UNKNOWN),
        (AWSUnsupportedError("x"), True, FAIL),
        (AWSUnsupportedError("x"), False, UNKNOWN),
        (AWSNotFoundError("x"), False, FAIL),
    ],
)
def test_error_fails_unless_it_is_transient_or_the_call_is_optional(
    error: AWSError, needed: bool, status: CheckStatus
) -> None:
    assert from_error("check", error, remedy="remedy", needed=needed).status is status


def test_long_error_is_shortened() -> None:
    result = from_error("check", AWSNotFoundError("x" * 300), remedy="remedy")
    assert result.found == "x" * 200 + "…"
