"""Concurrent calls that fail as sequential ones would."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.concurrent_calls import run_both


async def _result(value: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    return value


async def _failure(text: str, seconds: float) -> str:
    await asyncio.sleep(seconds)
    raise ValueError(text)


@simulated
async def test_both_run_at_the_same_time() -> None:
    assert await run_both(_result("a", 3), _result("b", 2)) == ("a", "b")
    assert asyncio.get_running_loop().time() == pytest.approx(3)


@simulated
async def test_error_of_the_first_is_raised_even_if_it_occurs_later() -> None:
    with pytest.raises(ValueError, match="first"):
        await run_both(_failure("first", 3), _failure("second", 1))


@simulated
async def test_error_of_the_first_cancels_the_second() -> None:
    with pytest.raises(ValueError, match="first"):
        await run_both(_failure("first", 1), _result("b", 100))
    assert asyncio.get_running_loop().time() == pytest.approx(1)
    assert len(asyncio.all_tasks()) == 1


@simulated
async def test_cancellation_cancels_both() -> None:
    calls = asyncio.ensure_future(run_both(_result("a", 100), _result("b", 100)))
    await asyncio.sleep(1)
    calls.cancel()
    await asyncio.gather(calls, return_exceptions=True)
    assert calls.cancelled()
    assert len(asyncio.all_tasks()) == 1
