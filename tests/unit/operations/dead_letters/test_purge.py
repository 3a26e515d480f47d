"""State that a purge deletes what it was told to, and tells what it could not."""

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


async def _buried(count: int) -> tuple[World, dict[str, str]]:
    """Make dead letters; give the place, and the event of each by the letter's id."""
    world = await open_world()
    for number in range(count):
        letter = to_dead_letter(received_message(body=body(number)), "invalid", "", dead_at=clock())
        assert await world.dead_letters.send([letter]) == [None]
    stored = world.sqs.queue(DEAD_LETTERS).messages.values()
    return world, {each.message_id: json.loads(each.body)["event_id"] for each in stored}


def _left(world: World) -> set[str]:
    return {json.loads(each)["event_id"] for each in world.bodies(DEAD_LETTERS)}


@simulated
async def test_it_deletes_those_that_were_named_and_no_others() -> None:
    world, events = await _buried(35)
    ids = [key for key, event in events.items() if event not in {"event-3", "event-30"}]
    told: list[int] = []
    figures = await purge(
        world.dead_letters,
        [*ids, "nobody"],
        now=clock,
        polls=4,
        progress=lambda so_far: told.append(so_far.deleted),
    )
    assert figures == PurgeFigures(deleted=33)
    assert told[-1] == 33
    assert _left(world) == {"event-3", "event-30"}
    assert (await world.dead_letters.state()).in_flight == 0


class _Failing(Queue):
    """Refuse to delete one letter, so many times."""

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
def test_what_fails_in_passing_is_tried_again(whole: bool) -> None:
    @simulated
    async def tried_again() -> None:
        world, events = await _buried(15)
        queue = _Failing(world.dead_letters, 2, whole=whole)
        assert (await purge(queue, events, now=clock)).deleted == 15
        assert _left(world) == set()

    tried_again()


@simulated
async def test_what_cannot_be_deleted_is_told_and_visible_again() -> None:
    world, events = await _buried(15)
    figures = await purge(_Failing(world.dead_letters, 99, whole=False), events, now=clock)
    assert figures == PurgeFigures(deleted=14, failed=1, last_error="slow down")
    assert _left(world) == {"event-3"}
    assert (await world.dead_letters.state()).visible == 1


@simulated
async def test_a_deleted_message_that_sqs_hands_out_again_is_deleted_again() -> None:
    world, events = await _buried(25)
    world.faults.rates = FaultRates(reappearance=1.0)
    world.faults.durations = replace(world.faults.durations, reappearance_seconds=0.5)
    figures = await purge(_Slow(world), [*events, "nobody"], now=clock)
    assert figures.deleted == 25
    assert _left(world) == set()


class _Slow(Queue):
    """Take so long for a delete that what it deletes first reappears before the next poll."""

    def __init__(self, world: World) -> None:
        super().__init__(world.dead_letters._client, world.dead_letters.url)
        self.faults = world.faults

    async def delete(self, messages: Any) -> list[AWSError | None]:
        results = await super().delete(messages)
        self.faults.rates = FaultRates()
        await asyncio.sleep(1)
        return results
