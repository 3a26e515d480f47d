"""Scans of the console: one at a time, shared, and no more often than needed."""

from __future__ import annotations

import asyncio
import re
import tracemalloc
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import World, clock, open_world
from tests.unit.operations.dead_letters.dead_letter_queue import (
    hide_elsewhere,
    scan_all,
    send_dead_letters,
    visible_and_in_flight,
)
from worker.aws.sqs import Queue
from worker.console import scans as scans_module
from worker.console.scans import DeadLetterScans, Snapshot
from worker.domain.message import ReceivedMessage
from worker.errors import AUPError, AWSDeniedError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter


def _scans(world: World, queue: Queue | None = None) -> DeadLetterScans:
    async def queues() -> tuple[Queue, Queue]:
        return world.source, queue or world.dead_letters

    return DeadLetterScans(queues, polls=4, now=clock)


async def _scanned(scans: DeadLetterScans, *, again: bool = False) -> Snapshot:
    scans.look(again=again)
    await scans.settle()
    return scans.snapshot


async def _until_seen(scans: DeadLetterScans, count: int) -> None:
    while scans.seen < count:  # noqa: ASYNC110 - the time is virtual
        await asyncio.sleep(0.001)


@simulated
async def test_first_look_scans_all_and_leaves_them_visible() -> None:
    world = await open_world()
    await send_dead_letters(world, 35)
    snapshot = await _scanned(_scans(world))
    assert (len(snapshot.dead_letters), snapshot.unseen, snapshot.number) == (35, 0, 1)
    assert await visible_and_in_flight(world.dead_letters) == (35, 0)


@simulated
async def test_summaries_contain_no_content_and_are_sorted_by_expiry() -> None:
    world = await open_world()
    for number in range(3):
        await send_dead_letters(world, 1, reason=f"reason-{number}")
        await asyncio.sleep(5)
    snapshot = await _scanned(_scans(world))
    found = [each.summary for each in snapshot.by_expiry()]
    assert [each.reason for each in found] == ["reason-0", "reason-1", "reason-2"]
    assert {(each.message.body, each.message.receipt_handle) for each in found} == {("", "")}


@simulated
async def test_viewers_share_one_scan() -> None:
    world = await open_world()
    await send_dead_letters(world, 30)
    scans = _scans(world)
    for _ in range(5):
        scans.look()
        await asyncio.sleep(0.001)
    await scans.settle()
    assert scans.snapshot.number == 1
    assert world.calls["GetQueueAttributes"] <= 4


@simulated
async def test_first_scan_is_visible_while_it_runs() -> None:
    world = await open_world()
    await send_dead_letters(world, 200)
    scans = _scans(world)
    scans.look()
    await _until_seen(scans, 50)
    assert scans.is_scanning
    assert scans.snapshot.scanned_at is None
    assert 50 <= len(scans.snapshot.dead_letters) < 200
    assert scans.snapshot.known == 200
    await scans.settle()
    assert len(scans.snapshot.dead_letters) == 200


@simulated
async def test_scan_is_repeated_after_a_change_but_not_before_15_seconds() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    scans = _scans(world)
    await _scanned(scans)
    await send_dead_letters(world, 2, reason="conflict")
    await asyncio.sleep(10)
    assert (await _scanned(scans)).number == 1
    await asyncio.sleep(6)
    snapshot = await _scanned(scans)
    assert snapshot.number == 2
    new = [each for each in snapshot.dead_letters.values() if each.first_seen == 2]
    assert [each.summary.reason for each in new] == ["conflict", "conflict"]


@simulated
async def test_unchanged_queue_is_scanned_again_after_5_minutes() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    scans = _scans(world)
    await _scanned(scans)
    await asyncio.sleep(290)
    assert (await _scanned(scans)).number == 1
    await asyncio.sleep(20)
    assert (await _scanned(scans)).number == 2


@simulated
async def test_nobody_looking_means_no_request() -> None:
    world = await open_world()
    scans = _scans(world)
    await _scanned(scans)
    before = world.calls.copy()
    await asyncio.sleep(1000)
    assert world.calls == before


@simulated
async def test_operator_may_scan_at_once() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    scans = _scans(world)
    await _scanned(scans)
    assert (await _scanned(scans, again=True)).number == 2


@simulated
async def test_no_scan_disturbs_messages_in_flight_elsewhere() -> None:
    world = await open_world()
    await send_dead_letters(world, 15)
    scans = _scans(world)
    await _scanned(scans)
    await send_dead_letters(world, 2)
    await hide_elsewhere(world)
    await asyncio.sleep(60)
    assert (await _scanned(scans)).number == 1


@simulated
async def test_dead_letters_in_flight_elsewhere_are_scanned_when_they_are_visible_again() -> None:
    world = await open_world()
    await send_dead_letters(world, 15)
    hidden = await hide_elsewhere(world, seconds=60)
    scans = _scans(world)
    snapshot = await _scanned(scans)
    assert (len(snapshot.dead_letters), snapshot.unseen) == (15 - len(hidden), len(hidden))
    await asyncio.sleep(80)
    snapshot = await _scanned(scans)
    assert (len(snapshot.dead_letters), snapshot.unseen) == (15, 0)


@simulated
async def test_no_scan_runs_during_a_replay() -> None:
    world = await open_world()
    await send_dead_letters(world, 15)
    scans = _scans(world)
    async with scans.exclusive():
        assert (await _scanned(scans, again=True)).number == 0
    await asyncio.sleep(3)
    assert (await _scanned(scans)).number == 1


@simulated
async def test_known_dead_letters_are_kept_as_the_same_objects() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    scans = _scans(world)
    before = dict((await _scanned(scans)).dead_letters)
    after = (await _scanned(scans, again=True)).dead_letters
    assert all(after[each] is before[each] for each in before)


@simulated
async def test_content_is_the_same_as_received() -> None:
    world = await open_world()
    binary = {"raw": {"DataType": "Binary", "BinaryValue": b"\xff"}}
    await send_dead_letters(world, 3, attributes=binary, group_id="g", trace_header="Root=1")
    scans = _scans(world)
    snapshot = await _scanned(scans)
    expected = {each.message_id: each for each in await scan_all(world)}
    polls = world.calls["ReceiveMessage"]
    async for each in scans.read(snapshot.by_expiry()):
        wanted = expected[each.message_id]
        assert (each.message.body, each.message.attributes, each.message.group_id) == (
            wanted.message.body, wanted.message.attributes, wanted.message.group_id
        )  # fmt: skip
        assert (each.detail, each.history) == (wanted.detail, wanted.history)
    assert world.calls["ReceiveMessage"] == polls


@simulated
async def test_content_that_is_not_kept_is_received_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scans_module, "CONTENT_MAX_BYTES", 500)
    world = await open_world()
    await send_dead_letters(world, 20)
    scans = _scans(world)
    snapshot = await _scanned(scans)
    kept = [each for each in snapshot.dead_letters.values() if each.content]
    assert 0 < len(kept) < 20
    bodies = [each.message.body async for each in scans.read(snapshot.by_expiry())]
    assert len(bodies) == 20
    assert all(bodies)
    assert await visible_and_in_flight(world.dead_letters) == (20, 0)


@simulated
async def test_content_that_is_not_kept_is_not_received_during_a_replay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scans_module, "CONTENT_MAX_BYTES", 0)
    world = await open_world()
    await send_dead_letters(world, 1)
    scans = _scans(world)
    [known] = (await _scanned(scans)).by_expiry()
    async with scans.exclusive():
        with pytest.raises(AUPError, match="a replay runs"):
            await scans.find(known.summary.message_id)
    assert await scans.find(known.summary.message_id) is not None


@simulated
async def test_dead_letter_is_found_by_both_ids() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    scans = _scans(world)
    snapshot = await _scanned(scans)
    for wanted in [each.summary for each in snapshot.dead_letters.values()]:
        for message_id in (wanted.message_id, wanted.original_message_id):
            found = await scans.find(message_id)
            assert found is not None
            assert (found.message_id, bool(found.message.body)) == (wanted.message_id, True)
    assert await scans.find("absent") is None


@simulated
async def test_pattern_is_searched_once_per_scan() -> None:
    world = await open_world()
    await send_dead_letters(world, 12)
    scans = _scans(world)
    await _scanned(scans)
    visited: list[str] = []

    def matches(dead_letter: DeadLetter) -> bool:
        visited.append(dead_letter.message_id)
        return bool(re.search('"event-1"', dead_letter.message.body))

    for _ in range(2):
        assert len(await scans.matching("event", matches)) == 1
    assert len(visited) == 12
    await _scanned(scans, again=True)
    await scans.matching("event", matches)
    assert len(visited) == 24


@simulated
async def test_pattern_whose_search_would_never_end_is_given_up_and_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scans_module, "_SEARCH_SECONDS", 0.05)
    world = await open_world()
    await send_dead_letters(world, 1, body="a" * 60 + "b")
    scans = _scans(world)
    await _scanned(scans)
    slow = DeadLetterFilter(grep=re.compile("(a|a)+$"))
    searched: list[str] = []

    def matches(dead_letter: DeadLetter) -> bool:
        searched.append(dead_letter.message_id)
        return slow.matches(dead_letter)

    for _ in range(2):
        with pytest.raises(UsageError, match="takes too long; simplify"):
            await scans.matching("(a|a)+$", matches)
    assert len(searched) == 1


@simulated
async def test_replayed_dead_letter_is_forgotten_at_once() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    scans = _scans(world)
    first, *_ = (await _scanned(scans)).by_expiry()
    scans.removed(first.summary.message_id)
    assert first not in scans.snapshot.by_expiry()
    assert len(scans.snapshot.by_expiry()) == 2
    assert scans.reason_counts().counts == {"invalid": 2}


class _Denied(Queue):
    """A queue that the role may not read."""

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue._client, queue.url)
        self.denied = True

    async def receive(self, *arguments: Any, **options: Any) -> list[ReceivedMessage]:
        if self.denied:
            raise AWSDeniedError("ReceiveMessage: AccessDenied")
        return await super().receive(*arguments, **options)


@simulated
async def test_error_is_shown_and_ends_with_the_next_successful_scan() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    queue = _Denied(world.dead_letters)
    scans = _scans(world, queue)
    await _scanned(scans)
    assert scans.error == "ReceiveMessage: AccessDenied"
    assert scans.reason_counts().unknown == scans.error
    queue.denied = False
    await asyncio.sleep(3)
    assert (await _scanned(scans)).number == 0
    await asyncio.sleep(20)
    snapshot = await _scanned(scans)
    assert (scans.error, len(snapshot.dead_letters)) == ("", 3)


@simulated
async def test_queue_that_counts_receives_is_scanned_only_on_request() -> None:
    world = await open_world()
    dead = world.sqs.queue("aup-acceptances-dead")
    redrive = '{"deadLetterTargetArn": "arn:aws:sqs:eu-west-1:1:x", "maxReceiveCount": 3}'
    dead.attributes["RedrivePolicy"] = redrive
    await send_dead_letters(world, 3)
    scans = _scans(world)
    assert (await _scanned(scans)).number == 0
    assert "own redrive policy" in scans.error
    assert len((await _scanned(scans, again=True)).dead_letters) == 3
    assert scans.error == ""


@simulated
async def test_closing_during_a_scan_makes_all_messages_visible() -> None:
    world = await open_world()
    await send_dead_letters(world, 100)
    scans = _scans(world)
    scans.look()
    await _until_seen(scans, 1)
    await scans.aclose()
    assert await visible_and_in_flight(world.dead_letters) == (100, 0)
    assert scans.snapshot.scanned_at is None
    scans.look()
    assert world.calls["GetQueueAttributes"] < 10


@simulated
async def test_snapshot_of_a_large_queue_needs_little_memory() -> None:
    world = await open_world()
    await send_dead_letters(world, 2000)
    scans = _scans(world)
    tracemalloc.start()
    try:
        await _scanned(scans)
        assert tracemalloc.get_traced_memory()[0] / 2000 < 1500
    finally:
        tracemalloc.stop()
