"""State that a replay loses nothing, sends what it should, and goes on where it was killed."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    FakeAcceptanceStore,
    World,
    body,
    clock,
    open_world,
    policy,
    received_message,
)
from worker.aws.sqs import Queue
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSError, AWSRejectedError, AWSThrottledError
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import assignment, setting
from worker.operations.dead_letters.journal import opened, peek
from worker.operations.dead_letters.replay import (
    ReplayFigures,
    ReplayObserver,
    ReplayOptions,
    Result,
    replay,
)
from worker.operations.dead_letters.scan import DeadLetter, DeadLetterFilter, walk

ARN = "arn:aws:sqs:eu-west-1:123456789012:dead"


async def _bury(world: World, count: int, reason: str = "invalid", **changes: Any) -> None:
    for number in range(count):
        given = received_message(number, **{"body": body(number, reason=reason), **changes})
        letter = to_dead_letter(given, reason, f"detail {number}", dead_at=clock())
        assert await world.dead_letters.send([letter]) == [None]


async def _walked(world: World) -> list[DeadLetter]:
    async with aclosing(walk(world.dead_letters, now=clock)) as letters:
        return [letter async for letter in letters]


async def _visible(queue: Queue) -> tuple[int, int]:
    state = await queue.state()
    return state.visible, state.in_flight


class _Telling(ReplayObserver):
    def __init__(self, told: list[int]) -> None:
        self.told = told

    def entered(self, _letter: DeadLetter, _result: Result, figures: ReplayFigures) -> None:
        self.told.append(figures.replayed)


@simulated
async def test_a_replay_sends_everything_back_as_it_was() -> None:
    world = await open_world()
    attributes = {
        f"a{number}": {"DataType": "Binary", "BinaryValue": bytes([number])} for number in range(10)
    }
    await _bury(world, 23, attributes=attributes)
    told: list[int] = []
    figures = await replay(
        world.source,
        world.dead_letters,
        DeadLetterFilter(),
        watcher=_Telling(told),
        now=clock,
    )
    assert figures.figures() == ReplayFigures(matched=23, replayed=23).figures()
    assert told[-1] == 23
    assert world.bodies(DEAD_LETTERS) == []
    assert sorted(world.bodies(SOURCE)) == sorted(
        body(number, reason="invalid") for number in range(23)
    )
    for message in world.sqs.queue(SOURCE).messages.values():
        assert message.attributes == attributes


@simulated
async def test_a_replay_takes_only_what_was_chosen() -> None:
    world = await open_world()
    await _bury(world, 5, "unknown_policy")
    await _bury(world, 7, "invalid")
    choice = DeadLetterFilter(reasons=["unknown_policy"])
    figures = await replay(world.source, world.dead_letters, choice, now=clock)
    assert figures.replayed == 5
    assert await _visible(world.dead_letters) == (7, 0)
    by_id = DeadLetterFilter(ids=["message-3"])  # the original's id
    assert (await replay(world.source, world.dead_letters, by_id, now=clock)).replayed == 1
    assert await _visible(world.dead_letters) == (6, 0)
    limited = DeadLetterFilter(limit=4)
    assert (await replay(world.source, world.dead_letters, limited, now=clock)).replayed == 4
    assert await _visible(world.dead_letters) == (2, 0)


class _Failing(Queue):
    """Fail some entries of a real queue's batches."""

    def __init__(self, queue: Queue, **failing: AWSError) -> None:
        super().__init__(queue._client, queue.url)
        self.failing = failing
        self.sizes: list[int] = []

    async def send(self, messages: Any) -> list[AWSError | None]:
        self.sizes.append(len(messages))
        return await self._some("send", messages, super().send)

    async def delete(self, messages: Any) -> list[AWSError | None]:
        return await self._some("delete", messages, super().delete)

    async def _some(self, operation: str, entries: Any, call: Any) -> list[AWSError | None]:
        error = self.failing.get(operation)
        bad = {id(each) for each in entries if error and '"event-3"' in each.body}
        good = [each for each in entries if id(each) not in bad]
        results = iter(await call(good) if good else [])
        return [error if id(each) in bad else next(results) for each in entries]


@simulated
async def test_what_cannot_be_sent_stays_dead_and_the_error_is_told() -> None:
    world = await open_world()
    await _bury(world, 15)
    source = _Failing(world.source, send=AWSRejectedError("too large"))
    figures = await replay(source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.figures() == ReplayFigures(matched=15, replayed=14, failed=1).figures()
    assert figures.last_error == "too large"
    assert [json.loads(each)["event_id"] for each in world.bodies(DEAD_LETTERS)] == ["event-3"]
    assert len(world.bodies(SOURCE)) == 14
    assert source.sizes == [10, 5]


@simulated
async def test_a_passing_failure_is_retried_entry_by_entry() -> None:
    world = await open_world()
    await _bury(world, 10)
    source = _Failing(world.source, send=AWSThrottledError("slow down"))
    task = asyncio.create_task(replay(source, world.dead_letters, DeadLetterFilter(), now=clock))
    while len(source.sizes) < 3:  # noqa: ASYNC110 - virtual time, and nothing tells us
        await asyncio.sleep(0.1)
    source.failing.clear()
    figures = await task
    assert figures.replayed == 10
    assert source.sizes[:2] == [10, 1]
    assert len(world.bodies(SOURCE)) == 10


@simulated
async def test_what_was_sent_but_not_deleted_is_told_and_in_both_queues() -> None:
    world = await open_world()
    await _bury(world, 5)
    # The body of a delivery that is to be deleted says which one it is.
    dead_letters = _Failing(world.dead_letters, delete=AWSRejectedError("no"))
    figures = await replay(world.source, dead_letters, DeadLetterFilter(), now=clock)
    assert figures.figures() == ReplayFigures(matched=5, replayed=4, undeleted=1).figures()
    assert (len(world.bodies(SOURCE)), len(world.bodies(DEAD_LETTERS))) == (5, 1)


@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_replay_interrupted_at_any_moment_loses_nothing(step: int) -> None:
    @simulated
    async def interrupted() -> None:
        world = await open_world()
        await _bury(world, 12)
        everything = set(world.bodies(DEAD_LETTERS))
        task = asyncio.create_task(
            replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
        )
        await asyncio.sleep(step * 0.004)
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(1000)
        kept = world.bodies(SOURCE) + world.bodies(DEAD_LETTERS)
        assert set(kept) == everything

    interrupted()


@simulated
async def test_large_letters_are_replayed_in_batches_within_the_limit() -> None:
    world = await open_world()
    for number in range(5):
        given = received_message(number, body=str(number) + "x" * 400_000)
        await world.dead_letters.send([to_dead_letter(given, "malformed", "", dead_at=clock())])
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.replayed == 5
    assert len(world.bodies(SOURCE)) == 5


def test_figures_start_at_nothing() -> None:
    assert set(ReplayFigures().figures().values()) == {0}


async def _noted(world: World, path: Path, **options: Any) -> ReplayFigures:
    with opened(path, ARN, "all", world.source.url) as journal:
        how = ReplayOptions(journal=journal)
        return await replay(
            world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock, **options
        )


class _Deaf(Queue):
    """Be cancelled when the first batch is to be deleted."""

    async def delete(self, *_: Any) -> list[AWSError | None]:
        raise asyncio.CancelledError


@simulated
async def test_a_second_run_deletes_what_the_first_has_sent_and_does_not_send_it_again(
    tmp_path: Path,
) -> None:
    world = await open_world()
    await _bury(world, 25)
    path = tmp_path / "journal.jsonl"
    deaf = _Deaf(world.dead_letters._client, world.dead_letters.url)
    with (
        opened(path, ARN, "all", world.source.url) as journal,
        pytest.raises(asyncio.CancelledError),
    ):
        await replay(
            world.source, deaf, DeadLetterFilter(), how=ReplayOptions(journal=journal), now=clock
        )
    assert len(world.bodies(SOURCE)) == 10
    figures = await _noted(world, path)
    assert (figures.matched, figures.replayed, figures.earlier) == (25, 25, 10)
    assert len(world.bodies(SOURCE)) == 25
    assert world.bodies(DEAD_LETTERS) == []
    assert not path.exists()


@simulated
async def test_what_was_not_sent_is_not_noted_and_sent_by_the_second_run(tmp_path: Path) -> None:
    world = await open_world()
    await _bury(world, 5)
    path = tmp_path / "journal.jsonl"
    refusing = _Failing(world.source, send=AWSRejectedError("no"))
    with opened(path, ARN, "all", world.source.url) as journal:
        how = ReplayOptions(journal=journal)
        figures = await replay(refusing, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.replayed, figures.failed) == (4, 1)
    figures = await _noted(world, path)
    assert (figures.replayed, figures.failed) == (1, 0)
    assert len(world.bodies(SOURCE)) == 5


class _Waiting(ReplayObserver):
    """Note when the replay waits."""

    def __init__(self) -> None:
        self.until: list[datetime] = []

    def waits(self, until: datetime) -> None:
        self.until.append(until)


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(seconds=-200)])
@simulated
async def test_a_clock_that_jumped_back_does_not_prolong_the_wait_for_a_killed_run(
    tmp_path: Path, jump: timedelta
) -> None:
    path = tmp_path / "journal.jsonl"
    world = await open_world()
    with opened(path, ARN, "all", world.source.url) as journal:
        journal.begin(clock() - jump, 60)  # and then it was killed
    began, waiting = clock(), _Waiting()
    await _noted(world, path, watcher=waiting)
    assert timedelta(seconds=59) < clock() - began < timedelta(seconds=70)
    assert timedelta() <= waiting.until[0] - began <= timedelta(seconds=61)


@simulated
async def test_it_waits_for_what_a_killed_run_keeps_hidden(tmp_path: Path) -> None:
    world = await open_world()
    await _bury(world, 15)
    path = tmp_path / "journal.jsonl"
    with opened(path, ARN, "all", world.source.url) as journal:
        journal.begin(clock(), 60)  # and then it was killed
    await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=60)
    began, waiting = clock(), _Waiting()
    figures = await _noted(world, path, watcher=waiting)
    assert figures.replayed == 15
    assert len(waiting.until) == 1
    assert timedelta(seconds=59) < clock() - began < timedelta(seconds=70)


@simulated
async def test_a_rate_is_kept_and_leaves_no_letter_hidden_too_shortly() -> None:
    world = await open_world()
    await _bury(world, 20)
    began = clock()
    how = ReplayOptions(rate_per_second=0.1)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.replayed, figures.undeleted) == (20, 0)
    assert clock() - began >= timedelta(seconds=190)
    assert len(world.bodies(SOURCE)) == 20


@simulated
async def test_who_edited_what_and_when_is_told_and_how_often_it_was_replayed() -> None:
    world = await open_world()
    await _bury(world, 3)
    how = ReplayOptions(
        repair=setting([assignment("user_id=u-1")]), operator="alice", max_replays=2
    )
    for _ in range(2):
        await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
        for message in await world.source.receive(
            10, wait_seconds=0, visibility_timeout_seconds=60
        ):
            await world.dead_letters.send([to_dead_letter(message, "invalid", "", dead_at=clock())])
            await world.source.delete([message])
    letters = {letter.user_id: letter for letter in await _walked(world)}
    history = letters["u-1"].history
    assert history.count == 2
    edits = {edit.changed for letter in await _walked(world) for edit in letter.history.edits}
    assert edits == {("user_id",)}
    assert {e.by for letter in await _walked(world) for e in letter.history.edits} == {"alice"}
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.matched, figures.skipped, figures.replayed) == (3, 3, 0)
    assert "replayed 2 times already (--max-replays 2)" in figures.notes[0]


@simulated
async def test_beside_a_quick_worker_that_refuses_them_again_it_ends() -> None:
    world = await open_world()
    await _bury(world, 12)

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
async def test_dead_letter_beyond_the_limit_of_the_destination_is_not_sent() -> None:
    world = await open_world()
    await _bury(world, 3)
    await _bury(world, 1, body=body(9, note="x" * 2000))
    world.sqs.queue(SOURCE).configure({"MaximumMessageSize": "1024"})
    limit = (await world.source.state()).message_max_bytes
    how = ReplayOptions(max_bytes=limit)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.replayed, figures.failed) == (3, 1)
    assert "the queue accepts at most 1,024" in figures.last_error
    assert len(world.bodies(SOURCE)) == 3
    assert len(world.bodies(DEAD_LETTERS)) == 1


@simulated
async def test_edit_with_a_character_that_sqs_refuses_is_not_sent() -> None:
    world = await open_world()
    await _bury(world, 1)
    how = ReplayOptions(repair=lambda given: OutgoingMessage(given.body + "\ufffe"))
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.replayed, figures.failed) == (0, 1)
    assert "SQS rejects U+FFFE" in figures.last_error
    assert world.calls["SendMessageBatch"] == 1, "only the dead letter itself"


async def _hidden_elsewhere(world: World, seconds: int = 6000) -> set[str]:
    held = await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=seconds)
    return {each.message_id for each in held}


@simulated
async def test_a_replay_reports_what_another_scan_hides() -> None:
    world = await open_world()
    await _bury(world, 40)
    for _ in range(3):
        await _hidden_elsewhere(world)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert (figures.replayed, figures.unseen) == (10, 30)


@simulated
async def test_a_limit_that_is_reached_leaves_nothing_unseen() -> None:
    world = await open_world()
    await _bury(world, 40)
    await _hidden_elsewhere(world)
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(limit=5), now=clock)
    assert (figures.replayed, figures.unseen) == (5, 0)


@simulated
async def test_a_slow_replay_of_many_sends_and_deletes_each_once() -> None:
    world = await open_world()
    await _bury(world, 120)
    how = ReplayOptions(rate_per_second=2)
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock, look_seconds=2
    )
    assert (figures.replayed, figures.unseen) == (120, 0)
    assert (len(world.bodies(SOURCE)), world.bodies(DEAD_LETTERS)) == (120, [])


@simulated
async def test_what_was_sent_and_is_not_seen_does_not_count_as_deleted(tmp_path: Path) -> None:
    world = await open_world()
    await _bury(world, 25)
    path = tmp_path / "journal.jsonl"
    deaf = _Deaf(world.dead_letters._client, world.dead_letters.url)
    with (
        opened(path, ARN, "all", world.source.url) as journal,
        pytest.raises(asyncio.CancelledError),
    ):
        await replay(
            world.source, deaf, DeadLetterFilter(), how=ReplayOptions(journal=journal), now=clock
        )
    sent = set(peek(path, ARN, "all", world.source.url).outstanding)
    hidden: set[str] = set()
    while not hidden & sent:
        hidden |= await _hidden_elsewhere(world)
    figures = await _noted(world, path)
    assert figures.unseen == len(hidden)
    assert figures.replayed == 25 - len(hidden)
    assert set(peek(path, ARN, "all", world.source.url).outstanding) == hidden & sent


@simulated
async def test_what_was_sent_to_another_queue_only_is_sent_to_the_source_too(
    tmp_path: Path,
) -> None:
    world = await open_world()
    scratch_url = (await world.sqs.create_queue(QueueName="scratch"))["QueueUrl"]
    scratch = Queue(world.source._client, scratch_url)
    await _bury(world, 13)
    path = tmp_path / "journal.jsonl"
    deaf = _Deaf(world.dead_letters._client, world.dead_letters.url)
    with opened(path, ARN, "all", scratch.url) as journal, pytest.raises(asyncio.CancelledError):
        await replay(
            scratch, deaf, DeadLetterFilter(), how=ReplayOptions(journal=journal), now=clock
        )
    assert len(world.bodies("scratch")) == 10
    figures = await _noted(world, path)
    assert (figures.replayed, figures.earlier) == (13, 0)
    assert len(world.bodies(SOURCE)) == 13


@simulated
async def test_what_was_sent_with_another_edit_is_sent_again(tmp_path: Path) -> None:
    world = await open_world()
    await _bury(world, 5)
    path = tmp_path / "journal.jsonl"
    deaf = _Deaf(world.dead_letters._client, world.dead_letters.url)
    for value, failing, count in (("a", deaf, 5), ("b", deaf, 10), ("b", world.dead_letters, 10)):
        with opened(path, ARN, value, world.source.url) as journal:
            how = ReplayOptions(journal=journal, repair=setting([assignment(f"method={value}")]))
            try:
                await replay(world.source, failing, DeadLetterFilter(), how=how, now=clock)
            except asyncio.CancelledError:
                assert failing is deaf
        assert len(world.bodies(SOURCE)) == count
    assert world.bodies(DEAD_LETTERS) == []


def _foreseeing(store: FakeAcceptanceStore) -> ReplayOptions:
    return ReplayOptions(forecast=DryRun(store, clock_skew_seconds=300, now=clock))


@simulated
async def test_what_would_be_dead_lettered_again_is_held_back() -> None:
    world = await open_world()
    await _bury(world, 4)
    for text in ("{", body(7, version="2026-09")):
        given = received_message(9, body=text)
        await world.dead_letters.send([to_dead_letter(given, "malformed", "", dead_at=clock())])
    how = _foreseeing(FakeAcceptanceStore(policy()))
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), how=how, now=clock)
    assert (figures.replayed, figures.skipped, figures.held_back) == (4, 2, 2)
    assert all("would be dead-lettered again: " in note for note in figures.notes)
    assert sorted(world.bodies(DEAD_LETTERS)) == sorted(["{", body(7, version="2026-09")])


@simulated
async def test_everything_is_sent_where_policies_cannot_be_read_and_nothing_else_is_wrong() -> None:
    world = await open_world()
    await _bury(world, 4)
    store = FakeAcceptanceStore()
    store.policy_error = AWSDeniedError("GetItem: denied")
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), how=_foreseeing(store), now=clock
    )
    assert (figures.replayed, figures.held_back) == (4, 0)
