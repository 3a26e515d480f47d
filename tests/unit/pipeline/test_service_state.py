"""Tests of the state that the stages share."""

from __future__ import annotations

import asyncio

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import service_state, settings
from worker.aws.access import Operation
from worker.errors import AWSDeniedError, GaveUpError
from worker.pipeline.breaker import Breaker

DENIED = AWSDeniedError("AccessDenied: no")


@simulated
async def test_giving_up_drains_and_keeps_the_first_error() -> None:
    state = service_state()
    first = GaveUpError("first")
    state.give_up(first)
    state.give_up(GaveUpError("second"))
    assert state.stopping.is_set()
    assert state.failure is first


@simulated
async def test_health_covers_breaker_access_and_stop_request() -> None:
    state = service_state()
    state.health.polled()
    assert state.health.why_not_ready() == []
    state.stopping.set()
    for _ in range(Breaker.FAILURES):
        state.breaker.failed()
    state.access.failed(Operation.DELETE, DENIED)
    assert state.health.why_not_ready() == [
        "draining",
        "the table is failing; receiving is paused",
        "AccessDenied: no",
    ]


@simulated
async def test_denied_access_gives_up_after_the_configured_time() -> None:
    state = service_state(settings(give_up_seconds=60.0))
    for _ in range(3):
        state.access.failed(Operation.DELETE, DENIED)
        await asyncio.sleep(20)
    assert not state.stopping.is_set()
    state.access.failed(Operation.DELETE, DENIED)
    assert str(state.failure) == "denied for 60 s or longer: AccessDenied: no"
