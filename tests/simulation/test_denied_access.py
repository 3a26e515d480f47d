"""Tests of temporarily denied access and of temporarily missing queues and tables."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.simulation.faults import Denial
from tests.simulation.outages import Outage, OutageKind
from tests.simulation.processes import ReplayProcess
from tests.simulation.scenario_steps import (
    ProcessManager,
    run_scenario,
    send_valid,
    start_worker,
    stop_worker,
    wait_until_empty,
)
from tests.simulation.traffic import Kind, SentMessage, plain_ones, sha256
from tests.simulation.virtual_clock import START
from tests.simulation.world import World
from worker.domain.outcome import OutcomeKind
from worker.errors import GaveUpError

_HOUR_SECONDS = 3600.0
_DENIED = Denial(code="AccessDeniedException")
_EXPIRED = Denial(code="ExpiredToken")


def _denying(*operations: str) -> Denial:
    return Denial(code="AccessDeniedException", operations=frozenset(operations))


@asynccontextmanager
async def _outage(world: World, target: str, denial: Denial | None = None) -> AsyncIterator[None]:
    outage = Outage(OutageKind.MISSING if denial is None else OutageKind.DENIED, target, denial)
    world.outages.begin(outage)
    yield
    world.outages.end(outage)


def _most_receives(world: World) -> int:
    return max(message.receive_count for message in world.audit.originals.values())


@pytest.mark.parametrize(
    ("target", "denial"),
    [
        ("dynamodb", _DENIED),
        ("dynamodb", _denying("GetItem")),
        ("aup-policies", None),
        ("aup-acceptances", None),
        ("sqs", _EXPIRED),
        ("sqs", _denying("ReceiveMessage")),
        ("source", None),
        ("dead", None),
    ],
)
def test_access_denied_for_an_hour_costs_no_message_and_no_receive(
    target: str, denial: Denial | None
) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 50)
        async with _outage(world, target, denial):
            managers = [ProcessManager(world, f"worker-{number}") for number in range(2)]
            await asyncio.sleep(_HOUR_SECONDS)
        assert all(len(manager.processes) > 5 for manager in managers)
        assert world.audit.source.received_count == 0
        await wait_until_empty(world)
        for manager in managers:
            await manager.stop()
        assert len(world.audit.store) == 50
        assert not world.audit.dead_letters.messages

    run_scenario(scenario)


@pytest.mark.parametrize(
    ("target", "denial"), [("dynamodb", _DENIED), ("aup-acceptances", None), ("sqs", _EXPIRED)]
)
def test_access_denied_under_load_costs_few_receives_and_no_message(
    target: str, denial: Denial | None
) -> None:
    async def scenario(world: World) -> None:
        manager = ProcessManager(world, "worker")
        await asyncio.sleep(5)
        send_valid(world, 50)
        await world.audit.wait_for_events(50, 5)
        async with _outage(world, target, denial):
            await asyncio.sleep(_HOUR_SECONDS)
        assert len(manager.processes) > 5
        await wait_until_empty(world)
        await manager.stop()
        assert _most_receives(world) <= 3
        assert len(world.audit.store) == 50
        assert not world.audit.dead_letters.messages

    run_scenario(scenario)


@pytest.mark.parametrize("write_api", ["batch", "put"])
def test_denial_shorter_than_give_up_seconds_does_not_end_the_worker(write_api: str) -> None:
    async def scenario(world: World) -> None:
        worker = start_worker(world)
        await asyncio.sleep(5)
        async with _outage(world, "dynamodb", _DENIED):
            send_valid(world, 20)
            await asyncio.sleep(world.settings.give_up_seconds - 20)
        await wait_until_empty(world)
        assert world.audit.source.received_count == 20
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 20}

    run_scenario(scenario, write_api=write_api)


def test_denials_separated_by_success_do_not_add_up() -> None:
    async def scenario(world: World) -> None:
        worker = start_worker(world)
        await asyncio.sleep(5)
        for number in range(4):
            async with _outage(world, "dynamodb", _DENIED):
                world.send(plain_ones(number + 1, START.isoformat())[number])
                await asyncio.sleep(world.settings.give_up_seconds / 2)
            await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 4}

    run_scenario(scenario)


def test_old_denial_does_not_add_to_a_new_one() -> None:
    async def scenario(world: World) -> None:
        worker = start_worker(world)
        await asyncio.sleep(5)
        [sent_message] = plain_ones(1, START.isoformat())
        async with _outage(world, "dynamodb", _DENIED):
            # Dead-lettered after the denial, without a write that would show that it has ended.
            stated = {**sent_message.stated, "content_sha256": sha256("another text")}
            world.send(SentMessage(Kind.WRONG_HASH, json.dumps(stated), stated))
            await asyncio.sleep(5)
        await wait_until_empty(world)
        await asyncio.sleep(2 * world.settings.give_up_seconds)
        async with _outage(world, "dynamodb", _DENIED):
            world.send(sent_message)
            await asyncio.sleep(5)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.DEAD_LETTERED: 1, OutcomeKind.RECORDED: 1}

    run_scenario(scenario)


@pytest.mark.parametrize("target", ["dynamodb", "sqs"])
def test_denial_longer_than_give_up_seconds_ends_the_worker_and_returns_all_messages(
    target: str,
) -> None:
    async def scenario(world: World) -> None:
        worker = start_worker(world)
        await asyncio.sleep(5)
        send_valid(world, 20)
        denial = _DENIED if target == "dynamodb" else _denying("ReceiveMessage")
        async with _outage(world, target, denial):
            await asyncio.wait([worker.task], timeout=world.settings.give_up_seconds + 60)
            worker.check()
            assert isinstance(worker.failure, GaveUpError)
            assert not world.audit.left_in_flight(worker.name)
        assert not world.audit.dead_letters.messages
        other = start_worker(world, "other")
        await wait_until_empty(world)
        await stop_worker(other)
        assert len(world.audit.store) == 20

    run_scenario(scenario)


@pytest.mark.parametrize("denial", [None, _denying("SendMessageBatch")])
def test_invalid_message_stays_in_the_source_while_its_dead_letter_cannot_be_sent(
    denial: Denial | None,
) -> None:
    async def scenario(world: World) -> None:
        for number in range(20):
            world.send(SentMessage(Kind.MALFORMED, f"nonsense {number}"))
        worker = start_worker(world)
        async with _outage(world, "sqs" if denial else "dead", denial):
            await asyncio.sleep(120)
            assert len(world.audit.bodies(world.audit.source)) == 20
            assert not world.audit.dead_letters.messages
        await wait_until_empty(world)
        assert len(world.audit.bodies(world.audit.dead_letters)) == 20
        await stop_worker(worker)

    run_scenario(scenario)


def test_message_that_cannot_be_deleted_is_recorded_once_and_deleted_later() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 20)
        worker = start_worker(world)
        async with _outage(world, "sqs", _denying("DeleteMessageBatch")):
            await asyncio.sleep(300)
            assert len(world.audit.store) == 20
            assert len(world.audit.source.messages) == 20
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 20}
        assert world.audit.source.received_count == 20
        assert not world.audit.dead_letters.messages

    run_scenario(scenario)


@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"])
def test_replay_denied_midway_loses_no_dead_letter(operation: str) -> None:
    async def scenario(world: World) -> None:
        for number in range(30):
            world.send(SentMessage(Kind.MALFORMED, f"nonsense {number}"))
        worker = start_worker(world)
        await wait_until_empty(world)
        await stop_worker(worker)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await world.audit.wait_for_events(12, 5)
        async with _outage(world, "sqs", _denying(operation)):
            await replay.task
            world.audit.check()
        bodies = world.audit.bodies(world.audit.dead_letters)
        assert len(bodies | world.audit.bodies(world.audit.source)) == 30

    run_scenario(scenario)
