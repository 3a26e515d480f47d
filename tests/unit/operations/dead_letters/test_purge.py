"""A purge deletes the given dead letters and counts those that it could not delete."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, World, body, clock, open_world, received_message
from worker.aws.sqs import Queue
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, AWSThrottledError
from worker.operations.dead_letters.purge import PurgeFigures, purge


async def _world_with_dead_letters(count: int) -> tuple[World, dict[str, str]]:
    """Send dead letters; return the world, and the event id of each by its message id."""
    world = await open_world()
    for number in range(count):
        dead_letter = to_dead_letter(
            received_message(body=body(number)), "invalid", "", dead_at=clock()
        )
        assert await world.dead_letters.send([dead_letter]) == [None]
    stored = world.sqs.queue(DEAD_LETTERS).messages.values()
    return world, {each.message_id: json.loads(each.body)["event_id"] for each in stored}


def _remaining(world: World) -> set[str]:
    return {json.loads(each)["event_id"] for each in world.bodies(DEAD_LETTERS)}


@simulated
async def test_purge_deletes_only_the_given_ids() -> None:
    world, events = await _world_with_dead_letters(35)
    ids = [key for key, event in events.items() if event not in {"event-3", "event-30"}]
    counts: list[int] = []
    figures = await purge(
        world.dead_letters,
        [*ids, "unknown"],
        now=clock,
        polls=4,
        progress=lambda so_far: counts.append(so_far.deleted),
    )
    assert figures == PurgeFigures(deleted=33)
    assert counts[-1] == 33
    assert _remaining(world) == {"event-3", "event-30"}
    assert (await world.dead_letters.state()).in_flight == 0


class _Failing(Queue):
    """A queue that fails to delete one message a number of times."""

    def __init__(self, queue: Queue, times: int, *, whole: bool) -> None:
        super().__init__(queue._client, queue.url)
        self.times = times
        self.whole = whole

    async def delete(self, messages: Any) -> list[AWSError | None]:
        bad: list[ReceivedMessage] = [each for each in messages if '"event-3"' in each.body]
        if not bad or self.times == 0:
            return await super().delete(messages)
        self.times -= 1
        error = AWSThrottledError("slow down")
        if self.whole:
            raise error
        good = [each for each in messages if each not in bad]
        results = iter(await super().delete(good) if good else [])
        return [error if each in bad else next(results) for each in messages]


@pytest.mark.parametrize("whole", [False, True])
def test_transient_failures_are_retried(whole: bool) -> None:
    @simulated
    async def tried_again() -> None:
        world, events = await _world_with_dead_letters(15)
        queue = _Failing(world.dead_letters, 2, whole=whole)
        assert (await purge(queue, events, now=clock)).deleted == 15
        assert _remaining(world) == set()

    tried_again()


@simulated
async def test_dead_letter_that_cannot_be_deleted_is_counted_and_visible_again() -> None:
    world, events = await _world_with_dead_letters(15)
    figures = await purge(_Failing(world.dead_letters, 99, whole=False), events, now=clock)
    assert figures == PurgeFigures(deleted=14, failed=1, last_error="slow down")
    assert _remaining(world) == {"event-3"}
    assert (await world.dead_letters.state()).visible == 1


@simulated
async def test_deleted_message_that_sqs_returns_again_is_deleted_again() -> None:
    world, events = await _world_with_dead_letters(25)
    world.faults.rates = FaultRates(reappearance=1.0)
    world.faults.durations = replace(world.faults.durations, reappearance_seconds=0.5)
    figures = await purge(_Slow(world), [*events, "unknown"], now=clock)
    assert figures.deleted == 25
    assert _remaining(world) == set()


class _Slow(Queue):
    """A queue whose deletes take so long that messages reappear before the next poll."""

    def __init__(self, world: World) -> None:
        super().__init__(world.dead_letters._client, world.dead_letters.url)
        self.faults = world.faults

    async def delete(self, messages: Any) -> list[AWSError | None]:
        results = await super().delete(messages)
        self.faults.rates = FaultRates()
        await asyncio.sleep(1)
        return results
