"""A replay with a journal resumes after an interruption."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    World,
    clock,
    open_world,
)
from tests.unit.operations.dead_letters.dead_letter_queue import (
    FailingQueue,
    hide_elsewhere,
    send_dead_letters,
)
from worker.aws.sqs import Queue
from worker.errors import AWSError, AWSRejectedError
from worker.operations.dead_letters.edit import edit_fields, parse_assignment
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import open_journal, read_journal
from worker.operations.dead_letters.replay import ReplayFigures, ReplayObserver, replay
from worker.operations.dead_letters.replay_options import ReplayOptions

ARN = "arn:aws:sqs:eu-west-1:123456789012:dead"


async def _replay_with_journal(
    world: World,
    path: Path,
    *,
    to: Queue | None = None,
    dead_letters: Queue | None = None,
    observer: ReplayObserver | None = None,
) -> ReplayFigures:
    source = to or world.source
    with open_journal(path, ARN, "all", source.url) as journal:
        return await replay(
            source,
            dead_letters or world.dead_letters,
            DeadLetterFilter(),
            options=ReplayOptions(journal=journal),
            observer=observer,
            now=clock,
        )


async def _interrupted_replay(world: World, path: Path, to: Queue | None = None) -> None:
    """Replay until the first batch is sent; cancel before its dead letters are deleted."""
    cancelled = _CancelledDelete(world.dead_letters._client, world.dead_letters.url)
    with pytest.raises(asyncio.CancelledError):
        await _replay_with_journal(world, path, to=to, dead_letters=cancelled)


class _CancelledDelete(Queue):
    """A queue whose first delete is cancelled."""

    async def delete(self, *_: Any) -> list[AWSError | None]:
        raise asyncio.CancelledError


@simulated
async def test_second_run_deletes_what_the_first_sent_without_sending_it_again(
    tmp_path: Path,
) -> None:
    world = await open_world()
    await send_dead_letters(world, 25)
    path = tmp_path / "journal.jsonl"
    await _interrupted_replay(world, path)
    assert len(world.bodies(SOURCE)) == 10
    figures = await _replay_with_journal(world, path)
    assert (figures.matched, figures.replayed, figures.earlier) == (25, 25, 10)
    assert len(world.bodies(SOURCE)) == 25
    assert world.bodies(DEAD_LETTERS) == []
    assert not path.exists()


@simulated
async def test_second_run_sends_what_the_first_failed_to_send(tmp_path: Path) -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    path = tmp_path / "journal.jsonl"
    refusing = FailingQueue(world.source, send=AWSRejectedError("no"))
    with open_journal(path, ARN, "all", world.source.url) as journal:
        options = ReplayOptions(journal=journal)
        figures = await replay(
            refusing, world.dead_letters, DeadLetterFilter(), options=options, now=clock
        )
    assert (figures.replayed, figures.failed) == (4, 1)
    figures = await _replay_with_journal(world, path)
    assert (figures.replayed, figures.failed) == (1, 0)
    assert len(world.bodies(SOURCE)) == 5


class _WaitRecorder(ReplayObserver):
    """Records the waits of a replay."""

    def __init__(self) -> None:
        self.until: list[datetime] = []

    def on_wait(self, until: datetime) -> None:
        self.until.append(until)


@pytest.mark.parametrize("jump", [timedelta(days=-2), timedelta(seconds=-200)])
@simulated
async def test_clock_set_back_does_not_prolong_the_wait_for_a_killed_run(
    tmp_path: Path, jump: timedelta
) -> None:
    path = tmp_path / "journal.jsonl"
    world = await open_world()
    with open_journal(path, ARN, "all", world.source.url) as journal:
        journal.begin(clock() - jump, 60)  # and then it was killed
    started_at, waits = clock(), _WaitRecorder()
    await _replay_with_journal(world, path, observer=waits)
    assert timedelta(seconds=59) < clock() - started_at < timedelta(seconds=70)
    assert timedelta() <= waits.until[0] - started_at <= timedelta(seconds=61)


@simulated
async def test_replay_waits_for_messages_that_a_killed_run_keeps_hidden(tmp_path: Path) -> None:
    world = await open_world()
    await send_dead_letters(world, 15)
    path = tmp_path / "journal.jsonl"
    with open_journal(path, ARN, "all", world.source.url) as journal:
        journal.begin(clock(), 60)  # and then it was killed
    await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=60)
    started_at, waits = clock(), _WaitRecorder()
    figures = await _replay_with_journal(world, path, observer=waits)
    assert figures.replayed == 15
    assert len(waits.until) == 1
    assert timedelta(seconds=59) < clock() - started_at < timedelta(seconds=70)


@simulated
async def test_sent_message_that_is_not_seen_does_not_count_as_deleted(tmp_path: Path) -> None:
    world = await open_world()
    await send_dead_letters(world, 25)
    path = tmp_path / "journal.jsonl"
    await _interrupted_replay(world, path)
    sent = set(read_journal(path, ARN, "all", world.source.url).outstanding)
    hidden: set[str] = set()
    while not hidden & sent:
        hidden |= await hide_elsewhere(world)
    figures = await _replay_with_journal(world, path)
    assert figures.unseen == len(hidden)
    assert figures.replayed == 25 - len(hidden)
    assert set(read_journal(path, ARN, "all", world.source.url).outstanding) == hidden & sent


@simulated
async def test_message_sent_to_another_queue_is_sent_to_the_source_queue_too(
    tmp_path: Path,
) -> None:
    world = await open_world()
    scratch_url = (await world.sqs.create_queue(QueueName="scratch"))["QueueUrl"]
    scratch = Queue(world.source._client, scratch_url)
    await send_dead_letters(world, 13)
    path = tmp_path / "journal.jsonl"
    await _interrupted_replay(world, path, to=scratch)
    assert len(world.bodies("scratch")) == 10
    figures = await _replay_with_journal(world, path)
    assert (figures.replayed, figures.earlier) == (13, 0)
    assert len(world.bodies(SOURCE)) == 13


@simulated
async def test_message_sent_with_another_edit_is_sent_again(tmp_path: Path) -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    path = tmp_path / "journal.jsonl"
    cancelled = _CancelledDelete(world.dead_letters._client, world.dead_letters.url)
    for value, failing, count in (
        ("a", cancelled, 5),
        ("b", cancelled, 10),
        ("b", world.dead_letters, 10),
    ):
        with open_journal(path, ARN, value, world.source.url) as journal:
            options = ReplayOptions(
                journal=journal, edit=edit_fields([parse_assignment(f"method={value}")])
            )
            try:
                await replay(world.source, failing, DeadLetterFilter(), options=options, now=clock)
            except asyncio.CancelledError:
                assert failing is cancelled
        assert len(world.bodies(SOURCE)) == count
    assert world.bodies(DEAD_LETTERS) == []
