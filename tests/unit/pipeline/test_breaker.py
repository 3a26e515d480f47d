"""Tests of when the breaker opens and closes."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.pipeline.breaker import Breaker


def _broken() -> Breaker:
    breaker = Breaker()
    *earlier, last = [breaker.failed() for _ in range(Breaker.FAILURES)]
    assert last
    assert not any(earlier)
    return breaker


@simulated
async def test_opens_after_consecutive_failures_and_reports_it_once() -> None:
    breaker = _broken()
    assert breaker.is_open
    assert not breaker.failed()


@simulated
async def test_success_resets_the_count_of_failures() -> None:
    breaker = Breaker()
    for _ in range(5):
        for _ in range(Breaker.FAILURES - 1):
            breaker.failed()
        assert not breaker.succeeded()
    assert not breaker.is_open


@simulated
async def test_first_success_closes_it_and_reports_it_once() -> None:
    breaker = _broken()
    assert breaker.succeeded()
    assert not breaker.succeeded()
    assert not breaker.is_open


@simulated
async def test_waiting_ends_when_it_closes() -> None:
    breaker = _broken()
    waiting = asyncio.create_task(breaker.wait_closed())
    await asyncio.sleep(5)
    assert not waiting.done()
    breaker.succeeded()
    assert await waiting
    assert asyncio.get_running_loop().time() == pytest.approx(5)


@simulated
async def test_probe_is_due_at_intervals_while_open() -> None:
    breaker = _broken()
    assert not await breaker.wait_closed()
    assert not await breaker.wait_closed()
    assert asyncio.get_running_loop().time() == pytest.approx(30)


@simulated
async def test_no_wait_while_closed() -> None:
    assert await Breaker().wait_closed()
    assert asyncio.get_running_loop().time() < 0.001
