"""Tests of the limits on messages in flight."""

from __future__ import annotations

import asyncio
import random

import pytest

from tests.simulation.virtual_clock import run, simulated
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.pipeline.slots import Slots


@simulated
async def test_released_slot_is_free() -> None:
    slots = Slots(10)
    (slot,) = await slots.reserve(1)
    assert (slots.in_flight, slots.free) == (1, 9)
    slot.release()
    assert slots.in_flight == 0


@simulated
async def test_releasing_a_slot_twice_has_no_effect() -> None:
    slots = Slots(10)
    taken = await slots.reserve(2)
    taken[0].release()
    taken[0].release()
    assert slots.in_flight == 1


@simulated
async def test_reservation_is_limited_by_request_and_by_free_slots() -> None:
    slots = Slots(15)
    assert len(await slots.reserve(10)) == 10
    assert len(await slots.reserve(5)) == 5
    assert slots.free == 0


@simulated
async def test_reservation_waits_until_a_poll_is_worth_its_call() -> None:
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
async def test_half_of_the_slots_suffice_if_there_are_few() -> None:
    slots = Slots(4)
    taken = await slots.reserve(4)
    waiting = asyncio.create_task(slots.reserve(10))
    taken[0].release()
    await asyncio.sleep(0.1)
    assert not waiting.done()
    taken[1].release()
    assert len(await waiting) == 2


@simulated
async def test_single_slot_can_be_reserved() -> None:
    slots = Slots(1)
    (slot,) = await slots.reserve(10)
    slot.release()
    assert len(await slots.reserve(10)) == 1


@simulated
async def test_every_waiter_is_served() -> None:
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
async def test_cancelled_waiter_passes_its_turn_on() -> None:
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


@simulated
async def test_cancelled_waiter_for_many_slots_lets_one_for_few_pass() -> None:
    slots = Slots(10)
    held = await slots.reserve(10)
    many = asyncio.create_task(slots.reserve(10))
    few = asyncio.create_task(slots.reserve(1))
    held.pop().release()
    await asyncio.sleep(1)
    assert not few.done()
    many.cancel()  # nothing else is released
    assert len(await asyncio.wait_for(few, 1)) == 1
    assert slots.in_flight == 10


@simulated
async def test_reservation_assumes_the_largest_messages_at_first() -> None:
    slots = Slots(100, 5.5 * MESSAGE_MAX_BYTES)
    assert len(await slots.reserve(10)) == 5
    assert slots.bytes_in_flight == 5 * MESSAGE_MAX_BYTES


@simulated
async def test_reservation_does_not_wait_if_memory_just_suffices() -> None:
    slots = Slots(20, 10 * MESSAGE_MAX_BYTES)
    assert len(await slots.reserve(5)) == 5
    # Room for half of the bound is enough; nothing is to be released.
    assert len(await asyncio.wait_for(slots.reserve(10), 1)) == 5


@simulated
async def test_small_messages_leave_memory_for_other_polls() -> None:
    slots = Slots(100, 10 * MESSAGE_MAX_BYTES)
    first = await slots.reserve(10)
    waiting = asyncio.create_task(slots.reserve(10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    for slot in first:
        slot.fill(400)
    assert slots.bytes_in_flight == 4000
    assert len(await waiting) == 10


@simulated
async def test_one_large_message_raises_the_expected_size() -> None:
    slots = Slots(1000, 4 * MESSAGE_MAX_BYTES)
    for _ in range(200):
        for slot in await slots.reserve(10):
            slot.fill(400)
            slot.release()
    taken = await slots.reserve(10)
    assert len(taken) == 10
    taken[0].fill(MESSAGE_MAX_BYTES)
    for slot in taken[1:]:
        slot.release()
    assert len(await slots.reserve(10)) == 3


@simulated
async def test_message_larger_than_the_memory_limit_is_held_alone() -> None:
    slots = Slots(10, MESSAGE_MAX_BYTES)
    (slot,) = await slots.reserve(10)
    slot.fill(4 * MESSAGE_MAX_BYTES)  # a character beyond the Basic Multilingual Plane does that
    waiting = asyncio.create_task(slots.reserve(10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    slot.release()
    assert len(await waiting) == 1


@simulated
async def test_filled_slots_are_counted() -> None:
    slots = Slots(10)
    taken = await slots.reserve(3)
    taken[0].fill(400)
    assert (slots.in_flight, slots.filled) == (3, 1)
    for slot in taken:
        slot.release()
    taken[0].fill(400)  # too late: it is given back
    assert (slots.in_flight, slots.filled, slots.bytes_in_flight) == (0, 0, 0)


@pytest.mark.parametrize("seed", range(20))
def test_slots_balance_under_cancellation_at_any_moment(seed: int) -> None:
    async def main() -> None:
        source = random.Random(seed)
        slots = Slots(source.randint(1, 25), source.randint(1, 25) * MESSAGE_MAX_BYTES)

        async def take_all_and_give_back() -> None:
            taken = await slots.reserve(10)
            assert slots.in_flight <= slots.limit
            assert slots.bytes_in_flight <= slots.limit_bytes
            try:
                for slot in taken:
                    slot.fill(source.randint(1, MESSAGE_MAX_BYTES))
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
        assert (slots.in_flight, slots.filled, slots.bytes_in_flight) == (0, 0, 0)
        assert len(await slots.reserve(1)) == 1

    run(main)
