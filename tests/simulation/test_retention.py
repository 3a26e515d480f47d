"""Tests with queues of short retention."""

from __future__ import annotations

import asyncio
from unittest.mock import ANY

import pytest

from tests.simulation.audit import SafetyError
from tests.simulation.outages import Outage, OutageKind
from tests.simulation.processes import ReplayProcess
from tests.simulation.scenario_steps import (
    run_scenario,
    send_valid,
    start_worker,
    stop_worker,
    wait_until_empty,
)
from tests.simulation.traffic import Kind, SentMessage, plain_ones
from tests.simulation.virtual_clock import START
from tests.simulation.world import MAX_RECEIVE_COUNT, World
from worker.domain.outcome import OutcomeKind

_SOURCE_SECONDS = 600
_DEAD_SECONDS = 1500
SHORT = {"retention_seconds": (_SOURCE_SECONDS, _DEAD_SECONDS)}


async def _down(world: World, seconds: float) -> None:
    outage = Outage(OutageKind.DOWN, "dynamodb")
    world.outages.begin(outage)
    await asyncio.sleep(seconds)
    world.outages.end(outage)


async def _is_there_until(world: World, moment: float) -> None:
    """Check that the dead letter is kept until a time and not longer."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(moment - 1 - loop.time())
    world.audit.check()
    assert len(world.audit.dead_letters.messages) == 1
    await asyncio.sleep(moment + 1 - loop.time())
    world.audit.check()
    assert not world.audit.dead_letters.messages


def test_messages_that_expire_in_an_outage_are_noticed_and_the_others_are_recorded() -> None:
    async def scenario(world: World) -> None:
        early, late = send_valid(world, 10), plain_ones(20, START.isoformat())[10:]
        worker = start_worker(world)
        outage = asyncio.create_task(_down(world, 2 * _SOURCE_SECONDS))
        await asyncio.sleep(1.5 * _SOURCE_SECONDS)
        for sent_message in late:
            world.send(sent_message)
        await outage
        await wait_until_empty(world)
        assert world.audit.expired.keys() == {sent_message.body for sent_message in early}
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.RETURNED: ANY}
        assert len(world.audit.store) == 10

    run_scenario(scenario, hold_seconds=30.0, **SHORT)


def test_audit_fails_for_a_message_that_expires_without_an_outage() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 1)
        world.outages.begin_fault_free_period()
        await asyncio.sleep(_SOURCE_SECONDS + 1)
        with pytest.raises(SafetyError, match=r"expired, with 60[0-9.]+ s to work on it"):
            world.audit.check()
        world.audit.problems.clear()

    run_scenario(scenario, **SHORT)


def test_message_that_expires_while_held_is_recorded() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 1)
        worker = start_worker(world)
        await _down(world, _SOURCE_SECONDS + 60)
        await asyncio.sleep(30)
        assert world.audit.expired
        assert len(world.audit.store) == 1
        await stop_worker(worker)

    run_scenario(scenario, hold_seconds=2 * _SOURCE_SECONDS, **SHORT)


def test_dead_letter_sent_by_the_worker_has_the_full_retention() -> None:
    async def scenario(world: World) -> None:
        world.send(SentMessage(Kind.MALFORMED, "nonsense"))
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        worker = start_worker(world)
        await wait_until_empty(world)
        await stop_worker(worker)
        [dead_letter] = world.audit.dead_letters.messages.values()
        sent_at = dead_letter.sent_at - START.timestamp()
        assert sent_at > _SOURCE_SECONDS - 60
        await _is_there_until(world, sent_at + _DEAD_SECONDS)

    run_scenario(scenario, **SHORT)


def test_dead_letter_moved_by_sqs_keeps_its_original_sent_time() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 1)
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        for _ in range(MAX_RECEIVE_COUNT + 1):
            world.audit.source.receive(1, 0)
        [dead_letter] = world.audit.dead_letters.messages.values()
        [original] = world.audit.originals.values()
        assert dead_letter.sent_at == original.sent_at
        await _is_there_until(world, dead_letter.sent_at - START.timestamp() + _DEAD_SECONDS)

    run_scenario(scenario, **SHORT)


def test_replay_restarts_the_retention_of_a_message() -> None:
    async def scenario(world: World) -> None:
        world.send(SentMessage(Kind.MALFORMED, "nonsense"))
        worker = start_worker(world)
        await wait_until_empty(world)
        await stop_worker(worker)
        await asyncio.sleep(_DEAD_SECONDS - 30)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        await asyncio.sleep(_SOURCE_SECONDS - 60)
        world.audit.check()
        assert world.audit.bodies(world.audit.source) == {"nonsense"}
        other = start_worker(world, "other")
        await wait_until_empty(world)
        assert await stop_worker(other) == {OutcomeKind.DEAD_LETTERED: 1}
        await asyncio.sleep(_DEAD_SECONDS - 60)
        world.audit.check()
        assert world.audit.bodies(world.audit.dead_letters) == {"nonsense"}

    run_scenario(scenario, **SHORT)
