"""Tests of liveness and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from worker.aws.access import Operation
from worker.domain.outcome import RECORDED
from worker.errors import AWSDeniedError, AWSThrottledError
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.breaker import Breaker
from worker.pipeline.health import Health
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slots


class _Trial:
    """Health and its sources, on a clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.accounting = Accounting()
        self.slots = Slots(10)
        self.breaker = Breaker()
        self.access = AccessWatch(300, lambda _: None, clock=lambda: self.now)
        self.stopping = asyncio.Event()
        self.health = Health(
            self.accounting,
            self.slots,
            self.breaker,
            [self.access],
            self.stopping,
            progress_seconds=60,
            clock=lambda: self.now,
        )


def test_polling_service_is_live_and_ready() -> None:
    trial = _Trial()
    trial.now += 50
    trial.health.polled()
    trial.now += 60
    assert trial.health.why_not_live() == []
    assert trial.health.why_not_ready() == []


def test_service_is_live_but_not_ready_before_the_first_poll_completes() -> None:
    trial = _Trial()
    assert trial.health.why_not_live() == []
    assert trial.health.why_not_ready() == ["no poll has completed yet"]


def test_service_without_progress_is_not_live() -> None:
    trial = _Trial()
    trial.health.polled()
    trial.now += 61
    assert trial.health.why_not_live() == [
        "no poll completed and no message was attempted for 61 s"
    ]
    trial.health.progressed()
    assert trial.health.why_not_live() == []


def test_service_with_progress_but_no_polls_is_live_but_not_ready() -> None:
    trial = _Trial()
    trial.health.polled()
    trial.now += 100
    trial.health.progressed()
    assert trial.health.why_not_live() == []
    assert trial.health.why_not_ready() == ["no poll completed for 100 s"]


def test_leaked_slot_is_reported() -> None:
    trial = _Trial()
    trial.health.polled()

    async def leak() -> None:
        for slot in await trial.slots.reserve(2):
            slot.fill(400)
            trial.accounting.open()

    asyncio.run(leak())
    assert trial.health.why_not_live() == []
    trial.accounting.close(RECORDED)
    assert trial.health.why_not_live() == [
        "message accounting does not balance: 2 slots filled, 1 messages held"
    ]


def _drain(trial: _Trial) -> None:
    trial.stopping.set()


def _break(trial: _Trial) -> None:
    for _ in range(Breaker.FAILURES):
        trial.breaker.failed()


def _deny(trial: _Trial) -> None:
    trial.access.failed(Operation.DELETE, AWSDeniedError("AccessDenied: no"))


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (_drain, "draining"),
        (_break, "the table is failing; receiving is paused"),
        (_deny, "AccessDenied: no"),
    ],
)
def test_service_with_a_problem_is_live_but_not_ready(
    trouble: Callable[[_Trial], None], reason: str
) -> None:
    trial = _Trial()
    trial.health.polled()
    trouble(trial)
    assert trial.health.why_not_live() == []
    assert trial.health.why_not_ready() == [reason]


def test_service_is_ready_again_after_the_problem() -> None:
    trial = _Trial()
    trial.health.polled()
    _break(trial)
    _deny(trial)
    trial.breaker.succeeded()
    trial.access.succeeded(Operation.DELETE)
    assert trial.health.why_not_ready() == []


def test_single_throttled_call_does_not_affect_readiness() -> None:
    trial = _Trial()
    trial.health.polled()
    trial.access.failed(Operation.DELETE, AWSThrottledError("slow down"))
    assert trial.health.why_not_ready() == []
