"""Play queues that keep messages for a short time only."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest

from tests.simulation.audit import SafetyError
from tests.simulation.outages import Outage, Trouble
from tests.simulation.processes import ReplayProcess
from tests.simulation.story import drained, played, sent, started, stopped
from tests.simulation.traffic import Kind, Sending, plain_ones
from tests.simulation.virtual_clock import START
from tests.simulation.world import MAX_RECEIVE_COUNT, World
from worker.domain.outcome import OutcomeKind

_SOURCE_SECONDS = 600
_DEAD_SECONDS = 1500
SHORT = {"retention_seconds": (_SOURCE_SECONDS, _DEAD_SECONDS)}


async def _down(world: World, seconds: float) -> None:
    outage = Outage(Trouble.DOWN, "dynamodb")
    world.outages.begin(outage)
    await asyncio.sleep(seconds)
    world.outages.end(outage)


async def _is_there_until(world: World, moment: float) -> None:
    """Check that the one dead letter stays until then, and no longer."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(moment - 1 - loop.time())
    world.audit.check()
    assert len(world.audit.dead_letters.messages) == 1
    await asyncio.sleep(moment + 1 - loop.time())
    world.audit.check()
    assert not world.audit.dead_letters.messages


def test_what_expires_while_nobody_can_work_is_accounted_for_and_the_rest_is_recorded() -> None:
    async def story(world: World) -> None:
        early, late = sent(world, 10), plain_ones(20, START.isoformat())[10:]
        worker = started(world)
        outage = asyncio.create_task(_down(world, 2 * _SOURCE_SECONDS))
        await asyncio.sleep(1.5 * _SOURCE_SECONDS)
        for sending in late:
            world.send(sending)
        await outage
        await drained(world)
        assert world.audit.expired.keys() == {sending.body for sending in early}
        assert await stopped(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.RETURNED: ANY}
        assert len(world.audit.store) == 10

    played(story, hold_seconds=30.0, **SHORT)


def test_what_expires_although_it_could_be_recorded_is_no_excuse() -> None:
    async def story(world: World) -> None:
        sent(world, 1)
        world.outages.calm_begins()
        await asyncio.sleep(_SOURCE_SECONDS + 1)
        with pytest.raises(SafetyError, match=r"expired, with 60[0-9.]+ s to work on it"):
            world.audit.check()
        world.audit.problems.clear()

    played(story, **SHORT)


def test_what_is_held_while_it_expires_is_recorded_all_the_same() -> None:
    async def story(world: World) -> None:
        sent(world, 1)
        worker = started(world)
        await _down(world, _SOURCE_SECONDS + 60)
        await asyncio.sleep(30)
        assert world.audit.expired
        assert len(world.audit.store) == 1
        await stopped(worker)

    played(story, hold_seconds=2 * _SOURCE_SECONDS, **SHORT)


def test_a_dead_letter_that_the_worker_sends_has_the_whole_retention_before_it() -> None:
    async def story(world: World) -> None:
        world.send(Sending(Kind.MALFORMED, "nonsense"))
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        worker = started(world)
        await drained(world)
        await stopped(worker)
        [letter] = world.audit.dead_letters.messages.values()
        buried_at = letter.sent_at - START.timestamp()
        assert buried_at > _SOURCE_SECONDS - 60
        await _is_there_until(world, buried_at + _DEAD_SECONDS)

    played(story, **SHORT)


def test_a_dead_letter_that_sqs_moves_has_only_the_rest() -> None:
    async def story(world: World) -> None:
        sent(world, 1)
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        for _ in range(MAX_RECEIVE_COUNT + 1):
            world.audit.source.take(1, 0)
        [letter] = world.audit.dead_letters.messages.values()
        [original] = world.audit.originals.values()
        assert letter.sent_at == original.sent_at
        await _is_there_until(world, letter.sent_at - START.timestamp() + _DEAD_SECONDS)

    played(story, **SHORT)


def test_a_replay_shortly_before_the_end_gives_a_message_its_whole_time_again() -> None:
    async def story(world: World) -> None:
        world.send(Sending(Kind.MALFORMED, "nonsense"))
        worker = started(world)
        await drained(world)
        await stopped(worker)
        await asyncio.sleep(_DEAD_SECONDS - 30)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        world.audit.check()
        assert world.audit.bodies(world.audit.source) == {"nonsense"}
        other = started(world, "other")
        await drained(world)
        assert await stopped(other) == {OutcomeKind.DEAD_LETTERED: 1}
        await asyncio.sleep(_DEAD_SECONDS - 60)
        world.audit.check()
        assert world.audit.bodies(world.audit.dead_letters) == {"nonsense"}

    played(story, **SHORT)
