"""Tests of the virtual clock."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.simulation.virtual_clock import DeadlockError, WallClock, abandon, run, simulated


def test_year_of_virtual_time_passes_at_once() -> None:
    async def sleep_for_a_year() -> float:
        await asyncio.sleep(365 * 86400)
        return asyncio.get_running_loop().time()

    begun = time.perf_counter()
    assert run(sleep_for_a_year) == pytest.approx(365 * 86400)
    assert time.perf_counter() - begun < 1


@simulated
async def test_timers_fire_in_order_of_their_time() -> None:
    fired: list[int] = []
    async with asyncio.TaskGroup() as group:
        for seconds in (3, 1, 2):
            group.create_task(_note_after(seconds, fired))
    assert fired == [1, 2, 3]
    assert asyncio.get_running_loop().time() == pytest.approx(3)


async def _note_after(seconds: int, fired: list[int]) -> None:
    await asyncio.sleep(seconds)
    fired.append(seconds)


def test_deadlock_raises_and_names_the_waiting_tasks() -> None:
    async def wait_forever() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="wait_forever"):
        run(wait_forever)


def test_the_same_seed_gives_the_same_schedule() -> None:
    assert run(_schedule, seed=7) == run(_schedule, seed=7)
    assert run(_schedule, seed=7) != run(_schedule, seed=8)


async def _schedule() -> list[tuple[int, float]]:
    seen: list[tuple[int, float]] = []

    async def step(number: int) -> None:
        for _ in range(5):
            await asyncio.sleep(random.random())
            seen.append((number, asyncio.get_running_loop().time()))

    await asyncio.gather(*(step(number) for number in range(10)))
    return seen


def test_seeded_run_restores_the_global_random() -> None:
    before = random.getstate()
    run(_schedule, seed=7)
    assert random.getstate() == before


@simulated
async def test_a_task_group_cancels_in_order_of_creation() -> None:
    cancelled: list[int] = []

    async def note_cancel(number: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.append(number)

    async def cancel_a_hundred() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(note_cancel(number))
            await asyncio.sleep(1)
            raise ValueError

    with pytest.raises(ExceptionGroup):
        await cancel_a_hundred()
    assert cancelled == sorted(cancelled)


@simulated
async def test_the_wall_clock_follows_virtual_time_and_its_skew() -> None:
    clock = WallClock()
    assert clock.now() == datetime(2026, 11, 22, 10, tzinfo=UTC)
    await asyncio.sleep(90)
    assert clock.now() == datetime(2026, 11, 22, 10, 1, 30, tzinfo=UTC)
    clock.skew = timedelta(minutes=-5)
    assert clock.now() == datetime(2026, 11, 22, 9, 56, 30, tzinfo=UTC)


@simulated
async def test_executor_functions_run_at_once_in_the_loop() -> None:
    assert await asyncio.to_thread(sum, [1, 2]) == 3
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(lambda: 1 // 0)


def test_remaining_tasks_are_cancelled() -> None:
    ended: list[bool] = []

    async def linger() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def leave_one_behind() -> asyncio.Task[None]:
        task = asyncio.create_task(linger())
        await asyncio.sleep(1)
        return task

    assert run(leave_one_behind).cancelled()
    assert ended == [True]


@simulated
async def test_abandon_ends_a_task_that_hangs_in_its_cleanup() -> None:
    async def hang_twice() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()

    task = asyncio.create_task(hang_twice())
    await asyncio.sleep(1)
    await abandon(task)
    assert task.cancelled()
