"""State that slots stay in balance, whoever is cancelled where."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.simulation.virtual_clock import run, simulated
from worker.pipeline.slots import Slots


@simulated
async def test_a_slot_is_held_until_its_block_ends() -> None:
    slots = Slots(10)
    (slot,) = await slots.reserve(1)
    async with slot:
        assert (slots.in_flight, slots.free) == (1, 9)
    assert slots.in_flight == 0


@simulated
async def test_a_slot_is_given_back_when_its_block_fails() -> None:
    slots = Slots(10)
    (slot,) = await slots.reserve(1)
    with pytest.raises(ZeroDivisionError):
        async with slot:
            raise ZeroDivisionError
    assert slots.in_flight == 0


@simulated
async def test_giving_a_slot_back_twice_changes_nothing() -> None:
    slots = Slots(10)
    taken = await slots.reserve(2)
    taken[0].release()
    taken[0].release()
    assert slots.in_flight == 1


@simulated
async def test_no_more_than_asked_and_no_more_than_free_are_taken() -> None:
    slots = Slots(15)
    assert len(await slots.reserve(10)) == 10
    assert len(await slots.reserve(5)) == 5
    assert slots.free == 0


@simulated
async def test_a_reservation_waits_until_a_poll_is_worth_its_price() -> None:
    slots = Slots(30)
    taken = await slots.reserve(30)
    waiting = asyncio.create_task(slots.reserve(10))
    for slot in taken[:9]:
        slot.release()
        await asyncio.sleep(0.1)
    assert not waiting.done()
    taken[9].release()
    assert len(await waiting) == 10


@simulated
async def test_where_there_are_few_slots_half_of_them_are_enough() -> None:
    slots = Slots(4)
    taken = await slots.reserve(4)
    waiting = asyncio.create_task(slots.reserve(10))
    taken[0].release()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    taken[1].release()
    assert len(await waiting) == 2


@simulated
async def test_a_single_slot_is_enough_where_there_is_but_one() -> None:
    slots = Slots(1)
    (slot,) = await slots.reserve(10)
    slot.release()
    assert len(await slots.reserve(10)) == 1


@simulated
async def test_every_waiter_gets_its_turn() -> None:
    slots = Slots(10)
    served: list[int] = []

    async def use(number: int) -> None:
        taken = await slots.reserve(10)
        served.append(number)
        await asyncio.sleep(1)
        for slot in taken:
            slot.release()

    await asyncio.gather(*(use(number) for number in range(20)))
    assert sorted(served) == list(range(20))
    assert slots.in_flight == 0


@simulated
async def test_a_waiter_that_is_cancelled_in_its_turn_passes_it_on() -> None:
    slots = Slots(1)
    (slot,) = await slots.reserve(1)
    first = asyncio.create_task(slots.reserve(1))
    second = asyncio.create_task(slots.reserve(1))
    await asyncio.sleep(0)
    slot.release()
    first.cancel()
    assert len(await second) == 1
    assert first.cancelled()
    assert slots.in_flight == 1


@pytest.mark.parametrize("seed", range(20))
def test_slots_balance_under_cancellation_at_any_moment(seed: int) -> None:
    async def main() -> None:
        source = random.Random(seed)
        slots = Slots(source.randint(1, 25))

        async def take_all_and_give_back() -> None:
            taken = await slots.reserve(10)
            assert slots.in_flight <= slots.limit
            try:
                await asyncio.sleep(source.random())
            finally:
                for slot in taken:
                    slot.release()

        tasks = [asyncio.create_task(take_all_and_give_back()) for _ in range(30)]
        for task in tasks:
            if source.random() < 0.5:
                await asyncio.sleep(source.random())
                task.cancel()
        await asyncio.wait(tasks)
        assert slots.in_flight == 0
        assert len(await slots.reserve(1)) == 1

    run(main)
