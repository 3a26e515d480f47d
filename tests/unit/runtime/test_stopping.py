"""State how waiting ends when the service is to stop."""

from __future__ import annotations

import asyncio

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.stopping import unless_stopped


async def _answer(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "answer"


@simulated
async def test_what_ends_first_gives_its_result() -> None:
    assert await unless_stopped(asyncio.Event(), _answer(5)) == "answer"


@simulated
async def test_a_stop_cancels_the_waiting_and_leaves_no_task_behind() -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().call_later(3, stopping.set)
    assert await unless_stopped(stopping, _answer(5)) is None
    assert asyncio.get_running_loop().time() == pytest.approx(3)
    assert len(asyncio.all_tasks()) == 1


@simulated
async def test_after_a_stop_the_waiting_does_not_even_begin() -> None:
    stopping = asyncio.Event()
    stopping.set()
    assert await unless_stopped(stopping, _answer(0)) is None


@simulated
async def test_what_fails_fails() -> None:
    async def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        await unless_stopped(asyncio.Event(), fail())


@simulated
async def test_a_cancelled_caller_cancels_what_it_waits_for() -> None:
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
