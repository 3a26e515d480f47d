"""A scan returns every dead dead_letter once and leaves all of them in the queue."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import clock, open_world, received_message
from tests.unit.operations.dead_letters.dead_letter_queue import (
    scan_all,
    send_dead_letters,
    visible_and_in_flight,
)
from worker.aws.sqs import Queue
from worker.domain.message import ReceivedMessage
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError
from worker.operations.dead_letters.scan import MAX_POLLS, Scan


@simulated
async def test_scan_leaves_every_message_in_the_queue() -> None:
    world = await open_world()
    await send_dead_letters(world, 35)
    dead_letters = await scan_all(world)
    assert sorted(dead_letter.detail for dead_letter in dead_letters) == sorted(
        f"detail {number}" for number in range(35)
    )
    assert await visible_and_in_flight(world.dead_letters) == (35, 0)


@simulated
async def test_scan_left_early_makes_all_messages_visible_again() -> None:
    world = await open_world()
    await send_dead_letters(world, 25)
    async with Scan(world.dead_letters, now=clock) as scan:
        async for _ in scan:
            assert await visible_and_in_flight(world.dead_letters) == (15, 10)
            break
    assert await visible_and_in_flight(world.dead_letters) == (25, 0)


@simulated
async def test_cancelled_scan_makes_all_messages_visible_again() -> None:
    world = await open_world()
    await send_dead_letters(world, 12)
    task = asyncio.create_task(scan_all(world))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(1)
    assert await visible_and_in_flight(world.dead_letters) == (12, 0)


@pytest.mark.parametrize("polls", [1, 8])
def test_scan_yields_each_message_once_despite_duplicate_deliveries(polls: int) -> None:
    @simulated
    async def seen_once() -> None:
        world = await open_world(seed=3)
        await send_dead_letters(world, 90)
        world.faults.rates = FaultRates(duplicate_receive=0.3, out_of_order=0.2)
        ids = [dead_letter.message_id for dead_letter in await scan_all(world, polls)]
        assert len(ids) == len(set(ids)) == 90
        assert await visible_and_in_flight(world.dead_letters) == (90, 0)

    seen_once()


@simulated
async def test_concurrent_polls_are_faster_and_leave_every_message_in_the_queue() -> None:
    world = await open_world()
    await send_dead_letters(world, 400)
    started_at = clock()
    assert len(await scan_all(world)) == 400
    sequential = clock() - started_at
    started_at = clock()
    assert len(await scan_all(world, polls=8)) == 400
    assert 2 * (clock() - started_at - timedelta(seconds=1)) < sequential - timedelta(seconds=1)
    assert await visible_and_in_flight(world.dead_letters) == (400, 0)


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.1, 0.2, 0.9])
def test_cancelled_scan_with_concurrent_polls_makes_all_messages_visible_again(
    seconds: float,
) -> None:
    @simulated
    async def cancelled() -> None:
        world = await open_world()
        await send_dead_letters(world, 150)
        task = asyncio.create_task(scan_all(world, polls=8))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(3)
        assert await visible_and_in_flight(world.dead_letters) == (150, 0)

    cancelled()


class _LimitedInFlight(Queue):
    """A queue that refuses to return more messages when too many are in flight."""

    def __init__(self, queue: Queue, limit: int) -> None:
        super().__init__(queue._client, queue.url)
        self.remaining = limit

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        if self.remaining <= 0:
            raise AWSThrottledError("OverLimit: too many messages in flight")
        messages = await super().receive(*arguments, **options)
        self.remaining -= len(messages)
        return messages


class _CountedPolls(Queue):
    """A queue that counts concurrent polls."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue._client, queue.url)
        self.polls = self.most = 0

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        self.polls += 1
        self.most = max(self.most, self.polls)
        try:
            return await super().receive(*arguments, **options)
        finally:
            self.polls -= 1


@simulated
async def test_scan_limits_its_concurrent_polls() -> None:
    world = await open_world()
    await send_dead_letters(world, 400)
    queue = _CountedPolls(world.dead_letters)
    async with Scan(queue, now=clock, polls=150) as scan:
        assert len([dead_letter async for dead_letter in scan]) == 400
    assert queue.most == MAX_POLLS


@simulated
async def test_scan_ends_early_when_too_many_messages_are_in_flight() -> None:
    world = await open_world()
    await send_dead_letters(world, 50)
    async with Scan(_LimitedInFlight(world.dead_letters, 20), now=clock, polls=2) as scan:
        assert 20 <= len([dead_letter async for dead_letter in scan]) < 50
    assert await visible_and_in_flight(world.dead_letters) == (50, 0)
    with pytest.raises(AWSThrottledError):
        async with Scan(_LimitedInFlight(world.dead_letters, 0), now=clock) as scan:
            await anext(scan)


class _EmptyFirstPoll(Queue):
    """A queue whose first response is empty, as short polls of a distributed queue may be."""

    polls = 0

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        self.polls += 1
        return [] if self.polls == 1 else await super().receive(*arguments, **options)


@simulated
async def test_empty_poll_ends_the_scan_only_when_all_counted_messages_were_seen() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    queue = _EmptyFirstPoll(world.dead_letters._client, world.dead_letters.url)
    async with Scan(queue, now=clock) as scan:
        assert len([dead_letter async for dead_letter in scan]) == 5
    assert queue.polls == 3


async def _scan_ids(queue: Queue) -> tuple[list[str], Scan]:
    async with Scan(queue, now=clock) as scan:
        return [dead_letter.message_id async for dead_letter in scan], scan


@simulated
async def test_messages_in_flight_elsewhere_are_reported_as_unseen_within_a_time_limit() -> None:
    world = await open_world()
    await send_dead_letters(world, 40)
    for _ in range(3):
        await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=600)
    started_at = clock()
    ids, scan = await _scan_ids(world.dead_letters)
    assert (len(ids), scan.unseen, scan.complete) == (10, 30, False)
    assert clock() - started_at < timedelta(seconds=30)
    assert await visible_and_in_flight(world.dead_letters) == (10, 30)


@simulated
async def test_scan_waits_for_messages_that_become_visible_soon() -> None:
    world = await open_world()
    await send_dead_letters(world, 40)
    for _ in range(3):
        await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=5)
    ids, scan = await _scan_ids(world.dead_letters)
    assert (len(ids), scan.unseen, scan.complete) == (40, 0, True)


@simulated
async def test_scan_left_early_reports_nothing_as_unseen() -> None:
    world = await open_world()
    await send_dead_letters(world, 25)
    async with Scan(world.dead_letters, now=clock) as scan:
        await anext(scan)
    assert (scan.complete, scan.unseen) == (False, 0)


@pytest.mark.parametrize("polls", [1, 4])
def test_messages_stay_hidden_during_a_long_scan(polls: int) -> None:
    @simulated
    async def long_scan() -> None:
        world = await open_world()
        await send_dead_letters(world, 60)
        ids = []
        scan = Scan(world.dead_letters, now=clock, visibility_timeout_seconds=8, polls=polls)
        async with scan:
            async for dead_letter in scan:
                ids.append(dead_letter.message_id)
                await asyncio.sleep(1)
                assert (await world.dead_letters.state()).in_flight >= len(ids)
        assert len(ids) == len(set(ids)) == 60
        assert scan.complete
        assert world.sqs.queue("aup-acceptances-dead").received_count == 60
        assert await visible_and_in_flight(world.dead_letters) == (60, 0)

    long_scan()


class _FailingExtensions(Queue):
    """A queue that refuses to change visibility timeouts, and counts polls."""

    polls = 0

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        self.polls += 1
        return await super().receive(*arguments, **options)

    async def change_visibility(self, *_: Any) -> list[AWSError | None]:
        raise AWSDeniedError("ChangeMessageVisibilityBatch: denied")


@simulated
async def test_polls_of_messages_seen_before_do_not_end_the_scan() -> None:
    world = await open_world()
    await send_dead_letters(world, 60)
    queue = _FailingExtensions(world.dead_letters._client, world.dead_letters.url)
    world.faults.rates = FaultRates(out_of_order=0.5)
    ids = set()
    async with Scan(queue, now=clock, visibility_timeout_seconds=4) as scan:
        async for dead_letter in scan:
            ids.add(dead_letter.message_id)
            await asyncio.sleep(0.3)
    assert len(ids) == 60
    assert queue.polls > 8


@simulated
async def test_scan_ends_when_the_queue_ignores_visibility_timeouts() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    queue = _NoVisibilityTimeout(world.dead_letters._client, world.dead_letters.url)
    ids, scan = await asyncio.wait_for(_scan_ids(queue), 60)
    assert len(ids) == 5
    assert scan.complete


class _NoVisibilityTimeout(Queue):
    """A queue that ignores visibility timeouts."""

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        await asyncio.sleep(0.1)
        return await super().receive(*arguments, **{**options, "visibility_timeout_seconds": 0})


class _Scripted(Queue):
    """A queue that returns scripted responses and reports a depth of zero."""

    def __init__(self, queue: Queue, *responses: list[ReceivedMessage]) -> None:
        super().__init__(queue._client, queue.url)
        self.responses = list(responses)

    async def receive(self, *_: Any, **__: Any) -> list[ReceivedMessage]:
        return self.responses.pop(0)


@simulated
async def test_poll_of_messages_seen_before_does_not_count_as_empty() -> None:
    world = await open_world()
    one, other = received_message(1), received_message(2)
    ids, scan = await _scan_ids(_Scripted(world.dead_letters, [one], [one], [one], [other], []))
    assert ids == ["message-1", "message-2"]
    assert scan.complete


@simulated
async def test_scan_returns_the_newest_receipt_handle_of_a_message() -> None:
    world = await open_world()
    old, newer = received_message(1), received_message(1, receipt_handle="newer")
    async with Scan(_Scripted(world.dead_letters, [old], [newer], []), now=clock) as scan:
        assert [scan.newest(each.message) async for each in scan] == [old]
        assert scan.newest(old).receipt_handle == "newer"
