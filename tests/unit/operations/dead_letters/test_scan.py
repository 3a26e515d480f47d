"""State that looking takes nothing and that replaying loses nothing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import World, body, clock, open_world, received_message
from worker.aws.sqs import Queue
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import ReceivedMessage
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError
from worker.operations.dead_letters.dead_letter import UNEXPLAINED, DeadLetter, describe
from worker.operations.dead_letters.scan import Scan, scan_dead_letters


async def _bury(world: World, count: int, reason: str = "invalid", **changes: Any) -> None:
    for number in range(count):
        given = received_message(number, body=body(number, reason=reason), **changes)
        letter = to_dead_letter(given, reason, f"detail {number}", dead_at=clock())
        assert await world.dead_letters.send([letter]) == [None]


async def _walked(world: World, polls: int = 1) -> list[DeadLetter]:
    async with aclosing(scan_dead_letters(world.dead_letters, now=clock, polls=polls)) as letters:
        return [letter async for letter in letters]


async def _visible(queue: Queue) -> tuple[int, int]:
    state = await queue.state()
    return state.visible, state.in_flight


def _describe(given: ReceivedMessage) -> DeadLetter:
    return describe(given, retention_seconds=1_209_600, now=START + timedelta(hours=1))


def test_a_letter_tells_reason_age_and_expiry() -> None:
    died = received_message(receive_count=4, sent_at=START - timedelta(days=1))
    sent = to_dead_letter(died, "conflict", "why", dead_at=START)
    letter = _describe(received_message(9, body=sent.body, attributes=sent.attributes))
    assert (letter.message_id, letter.original_message_id) == ("message-9", "message-0")
    assert letter.expires_at == START + timedelta(days=14)
    assert letter.summary(START + timedelta(hours=1)) == {
        "id": "message-9",
        "original_id": "message-0",
        "reason": "conflict",
        "detail": "why",
        "sent_at": "2026-11-21T10:00:00+00:00",
        "age_seconds": 25 * 3600,
        "expires_at": "2026-12-06T10:00:00+00:00",
        "expires_in_seconds": 14 * 86_400 - 3600,
        "receive_count": 4,
        "user_id": "u-0",
        "policy_id": "acceptable-use",
        "version": "2026-01",
        "replays": 0,
    }


def test_what_sqs_itself_moved_is_explained_by_its_body() -> None:
    assert _describe(received_message(body="{")).reason == "malformed"
    assert _describe(received_message(body="{}")).reason == "invalid"
    assert _describe(received_message()).reason == UNEXPLAINED


@simulated
async def test_looking_at_dead_letters_takes_nothing() -> None:
    world = await open_world()
    await _bury(world, 35)
    letters = await _walked(world)
    assert sorted(letter.detail for letter in letters) == sorted(
        f"detail {number}" for number in range(35)
    )
    assert await _visible(world.dead_letters) == (35, 0)


@simulated
async def test_a_walk_that_is_left_early_shows_everything_again() -> None:
    world = await open_world()
    await _bury(world, 25)
    async with aclosing(scan_dead_letters(world.dead_letters, now=clock)) as letters:
        async for _ in letters:
            assert await _visible(world.dead_letters) == (15, 10)
            break
    assert await _visible(world.dead_letters) == (25, 0)


@simulated
async def test_a_walk_that_is_cancelled_shows_everything_again() -> None:
    world = await open_world()
    await _bury(world, 12)
    task = asyncio.create_task(_walked(world))
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    await asyncio.sleep(1)
    assert await _visible(world.dead_letters) == (12, 0)


@pytest.mark.parametrize("polls", [1, 8])
def test_each_letter_is_seen_once_though_sqs_hands_it_out_twice(polls: int) -> None:
    @simulated
    async def seen_once() -> None:
        world = await open_world(seed=3)
        await _bury(world, 90)
        world.faults.rates = FaultRates(duplicate_delivery=0.3, out_of_order=0.2)
        ids = [letter.message_id for letter in await _walked(world, polls)]
        assert len(ids) == len(set(ids)) == 90
        assert await _visible(world.dead_letters) == (90, 0)

    seen_once()


@simulated
async def test_polls_beside_each_other_are_quicker_and_take_nothing_either() -> None:
    world = await open_world()
    await _bury(world, 400)
    began = clock()
    assert len(await _walked(world)) == 400
    one_by_one = clock() - began
    began = clock()
    assert len(await _walked(world, polls=8)) == 400
    assert 2 * (clock() - began - timedelta(seconds=1)) < one_by_one - timedelta(seconds=1)
    assert await _visible(world.dead_letters) == (400, 0)


@pytest.mark.parametrize("seconds", [0.01, 0.05, 0.1, 0.2, 0.9])
def test_a_quick_walk_that_is_cancelled_shows_everything_again(seconds: float) -> None:
    @simulated
    async def cancelled() -> None:
        world = await open_world()
        await _bury(world, 150)
        task = asyncio.create_task(_walked(world, polls=8))
        await asyncio.sleep(seconds)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(3)
        assert await _visible(world.dead_letters) == (150, 0)

    cancelled()


class _Limited(Queue):
    """Hand out no more where too many are hidden."""

    def __init__(self, queue: Queue, most: int) -> None:
        super().__init__(queue._client, queue.url)
        self.left = most

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        if self.left <= 0:
            raise AWSThrottledError("OverLimit: too many messages in flight")
        messages = await super().receive(*arguments, **options)
        self.left -= len(messages)
        return messages


@simulated
async def test_where_too_many_are_hidden_the_walk_ends_with_what_it_saw() -> None:
    world = await open_world()
    await _bury(world, 50)
    async with aclosing(
        scan_dead_letters(_Limited(world.dead_letters, 20), now=clock, polls=2)
    ) as letters:
        assert 20 <= len([letter async for letter in letters]) < 50
    assert await _visible(world.dead_letters) == (50, 0)
    with pytest.raises(AWSThrottledError):
        async with aclosing(
            scan_dead_letters(_Limited(world.dead_letters, 0), now=clock)
        ) as letters:
            await anext(letters)


class _Reluctant(Queue):
    """Give an empty answer first, as a queue of many parts may."""

    asked = 0

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        self.asked += 1
        return [] if self.asked == 1 else await super().receive(*arguments, **options)


@simulated
async def test_one_empty_answer_ends_a_walk_only_where_all_that_is_known_was_seen() -> None:
    world = await open_world()
    await _bury(world, 5)
    queue = _Reluctant(world.dead_letters._client, world.dead_letters.url)
    async with aclosing(scan_dead_letters(queue, now=clock)) as letters:
        assert len([letter async for letter in letters]) == 5
    assert queue.asked == 3


async def _scanned(queue: Queue, **options: Any) -> tuple[list[str], Scan]:
    scan = Scan()
    async with aclosing(scan_dead_letters(queue, now=clock, scan=scan, **options)) as letters:
        return [letter.message_id async for letter in letters], scan


@simulated
async def test_messages_in_flight_elsewhere_are_reported_as_unseen_after_a_bounded_time() -> None:
    world = await open_world()
    await _bury(world, 40)
    for _ in range(3):
        await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=600)
    began = clock()
    ids, scan = await _scanned(world.dead_letters)
    assert (len(ids), scan.unseen, scan.complete) == (10, 30, False)
    assert clock() - began < timedelta(seconds=30)
    assert await _visible(world.dead_letters) == (10, 30)


@simulated
async def test_a_scan_waits_for_messages_that_become_visible_soon() -> None:
    world = await open_world()
    await _bury(world, 40)
    for _ in range(3):
        await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=5)
    ids, scan = await _scanned(world.dead_letters)
    assert (len(ids), scan.unseen, scan.complete) == (40, 0, True)


@simulated
async def test_a_scan_that_is_left_early_has_nothing_unseen() -> None:
    world = await open_world()
    await _bury(world, 25)
    scan = Scan()
    async with aclosing(scan_dead_letters(world.dead_letters, now=clock, scan=scan)) as letters:
        await anext(letters)
    assert (scan.ended, scan.complete, scan.unseen) == (False, False, 0)


@pytest.mark.parametrize("polls", [1, 4])
def test_messages_stay_hidden_however_long_a_scan_takes(polls: int) -> None:
    @simulated
    async def long_scan() -> None:
        world = await open_world()
        await _bury(world, 60)
        scan, ids = Scan(), []
        scanning = scan_dead_letters(
            world.dead_letters, now=clock, visibility_timeout_seconds=8, polls=polls, scan=scan
        )
        async with aclosing(scanning) as letters:
            async for letter in letters:
                ids.append(letter.message_id)
                await asyncio.sleep(1)
                assert (await world.dead_letters.state()).in_flight >= len(ids)
        assert len(ids) == len(set(ids)) == 60
        assert scan.complete
        assert world.sqs.queue("aup-acceptances-dead").handed_out_count == 60
        assert await _visible(world.dead_letters) == (60, 0)

    long_scan()


class _Unextended(Queue):
    """Refuse to change a visibility, and count polls."""

    polls = 0

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        self.polls += 1
        return await super().receive(*arguments, **options)

    async def change_visibility(self, *_: Any) -> list[AWSError | None]:
        raise AWSDeniedError("ChangeMessageVisibilityBatch: denied")


@simulated
async def test_polls_of_messages_seen_before_do_not_end_a_scan() -> None:
    world = await open_world()
    await _bury(world, 60)
    queue = _Unextended(world.dead_letters._client, world.dead_letters.url)
    world.faults.rates = FaultRates(out_of_order=0.5)
    ids, scan = set(), Scan()
    async with aclosing(
        scan_dead_letters(queue, now=clock, visibility_timeout_seconds=4, scan=scan)
    ) as letters:
        async for letter in letters:
            ids.add(letter.message_id)
            await asyncio.sleep(0.3)
    assert len(ids) == 60
    assert queue.polls > 8


@simulated
async def test_a_scan_ends_where_the_queue_hides_nothing() -> None:
    world = await open_world()
    await _bury(world, 5)
    queue = _Unhiding(world.dead_letters._client, world.dead_letters.url)
    ids, scan = await asyncio.wait_for(_scanned(queue), 60)
    assert len(ids) == 5
    assert scan.complete


class _Unhiding(Queue):
    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        await asyncio.sleep(0.1)
        return await super().receive(*arguments, **{**options, "visibility_timeout_seconds": 0})


def test_a_scan_knows_the_newest_handle_of_a_message() -> None:
    scan, old = Scan(), received_message(1)
    scan.received([old, received_message(1, receipt_handle="newer")])
    assert scan.newest(old).receipt_handle == "newer"
    assert scan.newest(received_message(2)).receipt_handle == "handle-2"


class _Scripted(Queue):
    """Return one response after the other, and report that the queue is empty."""

    def __init__(self, queue: Queue, *responses: list[ReceivedMessage]) -> None:
        super().__init__(queue._client, queue.url)
        self.responses = list(responses)

    async def receive(self, *_: Any, **__: Any) -> list[ReceivedMessage]:
        return self.responses.pop(0)


@simulated
async def test_a_poll_of_messages_seen_before_is_no_empty_poll_whatever_the_queue_reports() -> None:
    world = await open_world()
    one, other = received_message(1), received_message(2)
    ids, scan = await _scanned(_Scripted(world.dead_letters, [one], [one], [one], [other], []))
    assert ids == ["message-1", "message-2"]
    assert scan.complete
