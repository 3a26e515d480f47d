"""State that a replay loses nothing, sends what it should, and goes on where it was killed."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, body, clock, delivery, open_world
from worker.dead_letter import bury
from worker.dead_letters.replay import ReplayFigures, Result, Watcher, replay
from worker.dead_letters.walk import Choice, DeadLetter, walk
from worker.errors import AWSError, AWSRejectedError, AWSThrottledError
from worker.queue import Queue


async def _bury(world: World, count: int, reason: str = "invalid", **changes: Any) -> None:
    for number in range(count):
        given = delivery(number, body=body(number, reason=reason), **changes)
        letter = bury(given, reason, f"detail {number}", dead_at=clock())
        assert await world.dead_letters.send([letter]) == [None]


async def _walked(world: World) -> list[DeadLetter]:
    async with aclosing(walk(world.dead_letters, now=clock)) as letters:
        return [letter async for letter in letters]


async def _visible(queue: Queue) -> tuple[int, int]:
    state = await queue.state()
    return state.visible, state.in_flight


class _Telling(Watcher):
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
        Choice(),
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
    choice = Choice(reasons=["unknown_policy"])
    figures = await replay(world.source, world.dead_letters, choice, now=clock)
    assert figures.replayed == 5
    assert await _visible(world.dead_letters) == (7, 0)
    by_id = Choice(ids=["message-3"])  # the original's id
    assert (await replay(world.source, world.dead_letters, by_id, now=clock)).replayed == 1
    assert await _visible(world.dead_letters) == (6, 0)
    limited = Choice(limit=4)
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

    async def delete(self, deliveries: Any) -> list[AWSError | None]:
        return await self._some("delete", deliveries, super().delete)

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
    figures = await replay(source, world.dead_letters, Choice(), now=clock)
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
    task = asyncio.create_task(replay(source, world.dead_letters, Choice(), now=clock))
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
    figures = await replay(world.source, dead_letters, Choice(), now=clock)
    assert figures.figures() == ReplayFigures(matched=5, replayed=4, undeleted=1).figures()
    assert (len(world.bodies(SOURCE)), len(world.bodies(DEAD_LETTERS))) == (5, 1)


@pytest.mark.parametrize("step", range(0, 60, 3))
def test_a_replay_interrupted_at_any_moment_loses_nothing(step: int) -> None:
    @simulated
    async def interrupted() -> None:
        world = await open_world()
        await _bury(world, 12)
        everything = set(world.bodies(DEAD_LETTERS))
        task = asyncio.create_task(replay(world.source, world.dead_letters, Choice(), now=clock))
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
        given = delivery(number, body=str(number) + "x" * 400_000)
        await world.dead_letters.send([bury(given, "malformed", "", dead_at=clock())])
    figures = await replay(world.source, world.dead_letters, Choice(), now=clock)
    assert figures.replayed == 5
    assert len(world.bodies(SOURCE)) == 5


def test_figures_start_at_nothing() -> None:
    assert set(ReplayFigures().figures().values()) == {0}
