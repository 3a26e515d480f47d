"""State when trouble that no retry mends ends the service."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSThrottledError,
    AWSUnavailableError,
    GaveUpError,
)
from worker.pipeline.patience import Patience


class _Trial:
    def __init__(self) -> None:
        self.now = 0.0
        self.given_up: list[GaveUpError] = []
        self.patience = Patience(300, self.given_up.append, lambda: self.now)

    def fail(self, error: AWSError, *, at: float) -> bool:
        self.now = at
        self.patience.failed(error)
        return bool(self.given_up)


@pytest.mark.parametrize("error", [AWSDeniedError("no entry"), AWSNotFoundError("no queue")])
def test_it_gives_up_when_access_is_denied_or_the_queue_gone_for_too_long(error: AWSError) -> None:
    trial = _Trial()
    assert not any(trial.fail(error, at=seconds) for seconds in range(10, 310, 60))
    assert not trial.fail(error, at=309)
    assert trial.fail(error, at=310)
    assert str(trial.given_up[0]) == f"for 300 s and longer: {error}"


def test_a_success_in_between_restores_its_patience() -> None:
    trial = _Trial()
    trial.fail(AWSDeniedError("no"), at=0)
    trial.patience.succeeded()
    assert not any(trial.fail(AWSDeniedError("no"), at=seconds) for seconds in range(10, 300, 30))
    assert not trial.fail(AWSDeniedError("no"), at=309)
    assert trial.fail(AWSDeniedError("no"), at=310)


def test_a_minute_without_a_failure_restores_its_patience() -> None:
    trial = _Trial()
    trial.fail(AWSDeniedError("no"), at=0)
    assert not trial.fail(AWSDeniedError("no"), at=400)
    assert not any(trial.fail(AWSDeniedError("no"), at=seconds) for seconds in range(430, 700, 30))
    assert trial.fail(AWSDeniedError("no"), at=700)


def test_an_outage_between_two_denials_is_no_denial() -> None:
    trial = _Trial()
    trial.fail(AWSDeniedError("no"), at=0)
    assert not any(trial.fail(AWSUnavailableError("down"), at=at) for at in range(10, 1000, 30))
    assert not trial.fail(AWSNotFoundError("gone"), at=1000)
    assert not any(trial.fail(AWSNotFoundError("gone"), at=at) for at in range(1030, 1300, 30))
    assert trial.fail(AWSNotFoundError("gone"), at=1300)


def test_denials_with_passing_failures_among_them_end_it_all_the_same() -> None:
    trial = _Trial()
    for at in range(0, 600, 2):
        trial.fail(AWSDeniedError("no"), at=at)
        if at % 10 == 0:
            trial.fail(AWSUnavailableError("down"), at=at + 1)
    assert trial.given_up


@pytest.mark.parametrize("error", [AWSThrottledError("slow"), AWSUnavailableError("down")])
def test_what_may_pass_by_itself_is_borne_for_ever(error: AWSError) -> None:
    trial = _Trial()
    assert not any(trial.fail(error, at=seconds) for seconds in range(0, 100_000, 100))


def test_trouble_is_logged_once_a_minute() -> None:
    trial = _Trial()
    with capture_logs() as logs:
        for seconds in range(180):
            trial.fail(AWSUnavailableError("down"), at=seconds)
    assert [(entry["kind"], entry["error"]) for entry in logs] == [
        ("AWSUnavailableError", "down")
    ] * 3
