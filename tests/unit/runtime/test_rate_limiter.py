"""A rate limiter delays units that would exceed the rate."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.rate_limiter import RateLimiter


async def _seconds(per_second: float | None, *batches: int) -> float:
    clock = asyncio.get_running_loop().time
    started_at, limiter = clock(), RateLimiter(per_second)
    for units in batches:
        await limiter.wait()
        limiter.spend(units)
    return clock() - started_at


@simulated
async def test_wait_ends_when_the_units_spent_are_within_the_rate() -> None:
    assert await _seconds(5, 10, 20, 1) == pytest.approx(6)
    assert await _seconds(0.1, 1, 1) == pytest.approx(10)


@simulated
async def test_without_limit_there_is_no_wait() -> None:
    assert await _seconds(None, 10**9, 1) == 0


@simulated
async def test_idle_time_does_not_allow_a_burst() -> None:
    limiter = RateLimiter(1)
    await asyncio.sleep(100)
    limiter.spend(2)
    started_at = asyncio.get_running_loop().time()
    await limiter.wait()
    assert asyncio.get_running_loop().time() - started_at == pytest.approx(2)


@simulated
async def test_batches_are_smaller_at_a_low_rate() -> None:
    limits = [RateLimiter(rate).batch_limit(10) for rate in (None, 50, 2.5, 0.1)]
    assert limits == [10, 10, 2, 1]
