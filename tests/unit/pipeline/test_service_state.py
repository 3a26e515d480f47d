"""Tests of the state that the stages share, and of its liveness and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import aws_settings, service_state, settings
from worker.aws.access import Operation
from worker.domain.outcome import RECORDED
from worker.errors import AWSDeniedError, AWSThrottledError, GaveUpError
from worker.pipeline.breaker import Breaker
from worker.pipeline.service_state import ServiceState
from worker.pipeline.slots import Slots

DENIED = AWSDeniedError("AccessDenied: no")


def _state() -> ServiceState:
    """Return a state in which no single step takes more than 60 seconds."""
    chosen = settings(wait_seconds=20, aws=aws_settings(call_timeout_seconds=1.0))
    return service_state(chosen, Slots(10))


@simulated
async def test_giving_up_drains_and_keeps_the_first_error() -> None:
    state = service_state()
    first = GaveUpError("first")
    state.give_up(first)
    state.give_up(GaveUpError("second"))
    assert state.stopping.is_set()
    assert state.failure is first


@simulated
async def test_denied_access_gives_up_after_the_configured_time() -> None:
    state = service_state(settings(give_up_seconds=60.0))
    for _ in range(3):
        state.access.failed(Operation.DELETE, DENIED)
        await asyncio.sleep(20)
    assert not state.stopping.is_set()
    state.access.failed(Operation.DELETE, DENIED)
    assert str(state.failure) == "denied for 60 s or longer: AccessDenied: no"


@simulated
async def test_polling_service_is_live_and_ready() -> None:
    state = _state()
    await asyncio.sleep(50)
    state.polled()
    await asyncio.sleep(59.9)
    assert state.why_not_live() == []
    assert state.why_not_ready() == []


@simulated
async def test_service_is_live_but_not_ready_before_the_first_poll_completes() -> None:
    state = _state()
    assert state.why_not_live() == []
    assert state.why_not_ready() == ["no poll has completed yet"]


@simulated
async def test_service_without_progress_is_not_live() -> None:
    state = _state()
    state.polled()
    await asyncio.sleep(61)
    assert state.why_not_live() == ["no poll completed and no message was attempted for 61 s"]
    state.progressed()
    assert state.why_not_live() == []


@simulated
async def test_service_with_progress_but_no_polls_is_live_but_not_ready() -> None:
    state = _state()
    state.polled()
    await asyncio.sleep(100)
    state.progressed()
    assert state.why_not_live() == []
    assert state.why_not_ready() == ["no poll completed for 100 s"]


@simulated
async def test_leaked_slot_is_reported() -> None:
    state = _state()
    state.polled()
    for slot in await state.slots.reserve(2):
        slot.fill(400)
        state.metrics.accounting.open()
    assert state.why_not_live() == []
    state.metrics.accounting.close(RECORDED)
    assert state.why_not_live() == [
        "message accounting does not balance: 2 slots filled, 1 messages held"
    ]


def _drain(state: ServiceState) -> None:
    state.stopping.set()


def _break(state: ServiceState) -> None:
    for _ in range(Breaker.FAILURES):
        state.breaker.failed()


def _deny(state: ServiceState) -> None:
    state.access.failed(Operation.DELETE, DENIED)


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        (_drain, "draining"),
        (_break, "the table is failing; receiving is paused"),
        (_deny, "AccessDenied: no"),
    ],
)
@simulated
async def test_service_with_a_problem_is_live_but_not_ready(
    trouble: Callable[[ServiceState], None], reason: str
) -> None:
    state = _state()
    state.polled()
    trouble(state)
    assert state.why_not_live() == []
    assert state.why_not_ready() == [reason]


@simulated
async def test_service_is_ready_again_after_the_problem() -> None:
    state = _state()
    state.polled()
    _break(state)
    _deny(state)
    state.breaker.succeeded()
    state.access.succeeded(Operation.DELETE)
    assert state.why_not_ready() == []


@simulated
async def test_single_throttled_call_does_not_affect_readiness() -> None:
    state = _state()
    state.polled()
    state.access.failed(Operation.DELETE, AWSThrottledError("slow down"))
    assert state.why_not_ready() == []
