"""A replay sends what matches the filters and loses nothing."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    FakeAcceptanceStore,
    body,
    clock,
    open_world,
    policy,
    received_message,
)
from tests.unit.operations.dead_letters.dead_letter_queue import (
    FailingQueue,
    hide_elsewhere,
    scan_all,
    send_dead_letters,
    visible_and_in_flight,
)
from worker.domain.dead_letter import replays, to_dead_letter
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSRejectedError, AWSThrottledError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import edit_fields, parse_assignment
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import ReplayFigures, ReplayObserver, Result, replay
from worker.operations.dead_letters.replay_options import ReplayOptions


class _CountRecorder(ReplayObserver):
    """Records the number of replayed messages."""

    def __init__(self, counts: list[int]) -> None:
        self.counts = counts

    def on_result(self, _dead_letter: DeadLetter, _result: Result, figures: ReplayFigures) -> None:
        self.counts.append(figures.replayed)


@simulated
async def test_replay_sends_every_message_unchanged() -> None:
    world = await open_world()
    attributes = {
        f"a{number}": {"DataType": "Binary", "BinaryValue": bytes([number])} for number in range(10)
    }
    await send_dead_letters(world, 23, attributes=attributes)
    counts: list[int] = []
    figures = await replay(
        world.source,
        world.dead_letters,
        DeadLetterFilter(),
        observer=_CountRecorder(counts),
        now=clock,
    )
    assert figures.counts() == ReplayFigures(matched=23, replayed=23).counts()
    assert counts[-1] == 23
    assert world.bodies(DEAD_LETTERS) == []
    assert sorted(world.bodies(SOURCE)) == sorted(
        body(number, reason="invalid") for number in range(23)
    )
    for message in world.sqs.queue(SOURCE).messages.values():
        sent = OutgoingMessage(message.body, message.attributes)
        assert len(sent.attributes) == 10  # SQS's maximum, so the history holds one of them
        kept = {name: sent.attributes[name] for name in attributes.keys() & sent.attributes.keys()}
        assert kept | dict(replays(sent).moved_attributes) == attributes


@simulated
async def test_replay_sends_only_dead_letters_that_match_the_filters() -> None:
    world = await open_world()
    await send_dead_letters(world, 5, "unknown_policy")
    await send_dead_letters(world, 7, "invalid")
    filters = DeadLetterFilter(reasons=["unknown_policy"])
    figures = await replay(world.source, world.dead_letters, filters, now=clock)
    assert figures.replayed == 5
    assert await visible_and_in_flight(world.dead_letters) == (7, 0)
    by_id = DeadLetterFilter(ids=["message-3"])  # the original's id
    assert (await replay(world.source, world.dead_letters, by_id, now=clock)).replayed == 1
    assert await visible_and_in_flight(world.dead_letters) == (6, 0)
    limited = DeadLetterFilter(limit=4)
    assert (await replay(world.source, world.dead_letters, limited, now=clock)).replayed == 4
    assert await visible_and_in_flight(world.dead_letters) == (2, 0)


@simulated
async def test_dead_letter_that_cannot_be_sent_stays_in_the_queue_with_its_error_reported() -> None:
    world = await open_world()
    await send_dead_letters(world, 15)
    source = FailingQueue(world.source, send=AWSRejectedError("too large"))
    figures = await replay(source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.counts() == ReplayFigures(matched=15, replayed=14, failed=1).counts()
    assert figures.last_error == "too large"
    assert [json.loads(each)["event_id"] for each in world.bodies(DEAD_LETTERS)] == ["event-3"]
    assert len(world.bodies(SOURCE)) == 14
    assert source.sizes == [10, 5]


@simulated
async def test_transient_failure_is_retried_by_entry() -> None:
    world = await open_world()
    await send_dead_letters(world, 10)
    source = FailingQueue(world.source, send=AWSThrottledError("slow down"))
    task = asyncio.create_task(replay(source, world.dead_letters, DeadLetterFilter(), now=clock))
    while len(source.sizes) < 3:  # noqa: ASYNC110 - virtual time without an event to wait for
        await asyncio.sleep(0.1)
    source.failing.clear()
    figures = await task
    assert figures.replayed == 10
    assert source.sizes[:2] == [10, 1]
    assert len(world.bodies(SOURCE)) == 10


@simulated
async def test_message_sent_but_not_deleted_is_counted_and_in_both_queues() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    # The body identifies the message to delete.
    dead_letters = FailingQueue(world.dead_letters, delete=AWSRejectedError("no"))
    figures = await replay(world.source, dead_letters, DeadLetterFilter(), now=clock)
    assert figures.counts() == ReplayFigures(matched=5, replayed=4, undeleted=1).counts()
    assert (len(world.bodies(SOURCE)), len(world.bodies(DEAD_LETTERS))) == (5, 1)


@pytest.mark.parametrize("step", range(0, 60, 3))
def test_replay_interrupted_at_any_moment_loses_nothing(step: int) -> None:
    @simulated
    async def interrupted() -> None:
        world = await open_world()
        await send_dead_letters(world, 12)
        everything = set(world.bodies(DEAD_LETTERS))
        task = asyncio.create_task(
            replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
        )
        await asyncio.sleep(step * 0.004)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1000)
        remaining = world.bodies(SOURCE) + world.bodies(DEAD_LETTERS)
        assert set(remaining) == everything

    interrupted()


@simulated
async def test_large_messages_are_sent_in_batches_within_the_size_limit() -> None:
    world = await open_world()
    for number in range(5):
        given = received_message(number, body=str(number) + "x" * 400_000)
        await world.dead_letters.send([to_dead_letter(given, "malformed", "", dead_at=clock())])
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.replayed == 5
    assert len(world.bodies(SOURCE)) == 5


@simulated
async def test_low_rate_is_kept_and_extends_the_visibility_timeout() -> None:
    world = await open_world()
    await send_dead_letters(world, 20)
    started_at = clock()
    options = ReplayOptions(rate_per_second=0.1)
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert (figures.replayed, figures.undeleted) == (20, 0)
    assert clock() - started_at >= timedelta(seconds=190)
    assert len(world.bodies(SOURCE)) == 20


@simulated
async def test_history_contains_edits_their_operator_and_the_number_of_replays() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    options = ReplayOptions(
        edit=edit_fields([parse_assignment("user_id=u-1")]), operator="alice", max_replays=2
    )
    for _ in range(2):
        await replay(
            world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
        )
        for message in await world.source.receive(
            10, wait_seconds=0, visibility_timeout_seconds=60
        ):
            await world.dead_letters.send([to_dead_letter(message, "invalid", "", dead_at=clock())])
            await world.source.delete([message])
    by_user = {dead_letter.user_id: dead_letter for dead_letter in await scan_all(world)}
    history = by_user["u-1"].history
    assert history.count == 2
    edits = {
        edit.changed for dead_letter in await scan_all(world) for edit in dead_letter.history.edits
    }
    assert edits == {("user_id",)}
    assert {e.by for dead_letter in await scan_all(world) for e in dead_letter.history.edits} == {
        "alice"
    }
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert (figures.matched, figures.skipped, figures.replayed) == (3, 3, 0)
    assert "replayed 2 times already (--max-replays 2)" in figures.notes[0]


@simulated
async def test_replay_ends_while_a_worker_dead_letters_the_messages_again() -> None:
    world = await open_world()
    await send_dead_letters(world, 12)

    async def refuse() -> None:
        while True:
            for message in await world.source.receive(
                10, wait_seconds=1, visibility_timeout_seconds=60
            ):
                await world.dead_letters.send(
                    [to_dead_letter(message, "invalid", "", dead_at=clock())]
                )
                await world.source.delete([message])

    worker = asyncio.create_task(refuse())
    figures = await asyncio.wait_for(
        replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock), 60
    )
    worker.cancel()
    assert figures.replayed == 12


@simulated
async def test_message_over_the_size_limit_of_the_destination_is_not_sent() -> None:
    world = await open_world()
    await send_dead_letters(world, 3)
    await send_dead_letters(world, 1, body=body(9, note="x" * 2000))
    world.sqs.queue(SOURCE).configure({"MaximumMessageSize": "1024"})
    limit = (await world.source.state()).message_max_bytes
    options = ReplayOptions(max_bytes=limit)
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert (figures.replayed, figures.failed) == (3, 1)
    assert "the queue accepts at most 1,024" in figures.last_error
    assert len(world.bodies(SOURCE)) == 3
    assert len(world.bodies(DEAD_LETTERS)) == 1


@simulated
async def test_edit_with_a_character_that_sqs_rejects_is_not_sent() -> None:
    world = await open_world()
    await send_dead_letters(world, 1)
    options = ReplayOptions(edit=lambda given: OutgoingMessage(given.body + "\ufffe"))
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert (figures.replayed, figures.failed) == (0, 1)
    assert "SQS rejects U+FFFE" in figures.last_error
    assert world.calls["SendMessageBatch"] == 1, "only the dead letter itself"


@simulated
async def test_messages_hidden_by_another_scan_are_reported_as_unseen() -> None:
    world = await open_world()
    await send_dead_letters(world, 40)
    for _ in range(3):
        await hide_elsewhere(world)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert (figures.replayed, figures.unseen) == (10, 30)


@simulated
async def test_replay_that_reaches_its_limit_reports_nothing_as_unseen() -> None:
    world = await open_world()
    await send_dead_letters(world, 40)
    await hide_elsewhere(world)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(limit=5), now=clock)
    assert (figures.replayed, figures.unseen) == (5, 0)


@simulated
async def test_slow_replay_sends_and_deletes_each_message_once() -> None:
    world = await open_world()
    await send_dead_letters(world, 120)
    options = ReplayOptions(rate_per_second=2)
    figures = await replay(
        world.source,
        world.dead_letters,
        DeadLetterFilter(),
        options=options,
        now=clock,
        visibility_timeout_seconds=2,
    )
    assert (figures.replayed, figures.unseen) == (120, 0)
    assert (len(world.bodies(SOURCE)), world.bodies(DEAD_LETTERS)) == (120, [])


def _with_dry_run(store: FakeAcceptanceStore) -> ReplayOptions:
    return ReplayOptions(dry_run=DryRun(store.policy, clock_skew_seconds=300, now=clock))


@simulated
async def test_message_that_would_be_dead_lettered_again_is_held_back() -> None:
    world = await open_world()
    await send_dead_letters(world, 4)
    for text in ("{", body(7, version="2026-09")):
        given = received_message(9, body=text)
        await world.dead_letters.send([to_dead_letter(given, "malformed", "", dead_at=clock())])
    options = _with_dry_run(FakeAcceptanceStore(policy()))
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert (figures.replayed, figures.skipped, figures.held_back) == (4, 2, 2)
    assert all("would be dead-lettered again: " in note for note in figures.notes)
    assert sorted(world.bodies(DEAD_LETTERS)) == sorted(["{", body(7, version="2026-09")])


@simulated
async def test_unreadable_policies_hold_nothing_back() -> None:
    world = await open_world()
    await send_dead_letters(world, 4)
    store = FakeAcceptanceStore()
    store.policy_error = AWSDeniedError("GetItem: denied")
    figures = await replay(
        world.source,
        world.dead_letters,
        DeadLetterFilter(),
        options=_with_dry_run(store),
        now=clock,
    )
    assert (figures.replayed, figures.held_back) == (4, 0)


def test_counts_start_at_zero_and_include_every_result() -> None:
    counts = ReplayFigures().counts()
    assert set(counts.values()) == {0}
    assert set(counts) == {"matched", *Result}


def test_notes_are_limited_in_number() -> None:
    figures = ReplayFigures()
    for number in range(30):
        message = received_message(number)
        figures.note(describe(message, retention_seconds=60, now=START), "not sent")
    assert len(figures.notes) == 20
    assert figures.notes[0] == "message-0: not sent"
