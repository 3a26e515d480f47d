"""Waits that end when the service stops."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.stopping import unless_stopped


async def _wait(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "result"


@simulated
async def test_result_is_returned_without_a_stop() -> None:
    assert await unless_stopped(asyncio.Event(), _wait(5)) == "result"


@simulated
async def test_stop_cancels_the_wait_and_leaves_no_task() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(3, stopping.set)
    assert await unless_stopped(stopping, _wait(5)) is None
    assert asyncio.get_running_loop().time() == pytest.approx(3)
    assert len(asyncio.all_tasks()) == 1


@simulated
async def test_wait_does_not_start_after_a_stop() -> None:
    stopping = asyncio.Event()
    stopping.set()
    assert await unless_stopped(stopping, _wait(0)) is None


@simulated
async def test_exception_is_raised() -> None:
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await unless_stopped(asyncio.Event(), fail())


@simulated
async def test_cancelled_caller_cancels_the_wait() -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(100)
        finally:
            ended.append("waiting")

    task = asyncio.create_task(unless_stopped(asyncio.Event(), wait()))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert ended == ["waiting"]
    assert len(asyncio.all_tasks()) == 1
