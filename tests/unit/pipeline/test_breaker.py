"""State when receiving stops, and when it goes on."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.pipeline.breaker import Breaker


def _broken() -> Breaker:
    breaker = Breaker(failures=3, probe_seconds=15.0)
    assert [breaker.failed() for _ in range(3)] == [False, False, True]
    return breaker


@simulated
async def test_it_opens_after_failures_in_a_row_and_says_so_once() -> None:
    breaker = _broken()
    assert breaker.is_open
    assert not breaker.failed()


@simulated
async def test_a_success_in_between_begins_the_count_anew() -> None:
    breaker = Breaker(failures=3)
    for _ in range(5):
        breaker.failed()
        breaker.failed()
        assert not breaker.succeeded()
    assert not breaker.is_open


@simulated
async def test_the_first_success_closes_it_and_says_so_once() -> None:
    breaker = _broken()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert not breaker.is_open


@simulated
async def test_whoever_waits_is_let_in_when_it_closes() -> None:
    breaker = _broken()
    waiting = asyncio.create_task(breaker.wait_closed())
    await asyncio.sleep(5)
    assert not waiting.done()
    breaker.succeeded()
    assert await waiting
    assert asyncio.get_running_loop().time() == pytest.approx(5)


@simulated
async def test_while_it_stays_open_a_probe_is_due_at_intervals() -> None:
    breaker = _broken()
    assert not await breaker.wait_closed()
    assert not await breaker.wait_closed()
    assert asyncio.get_running_loop().time() == pytest.approx(30)


@simulated
async def test_while_it_is_closed_nobody_waits() -> None:
    assert await Breaker().wait_closed()
    assert asyncio.get_running_loop().time() < 0.001
