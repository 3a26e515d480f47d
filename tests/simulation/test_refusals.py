"""Play access that is denied and places that are gone, for a while and then no longer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.simulation.faults import Denial
from tests.simulation.outages import Outage, Trouble
from tests.simulation.processes import ReplayProcess
from tests.simulation.story import Supervisor, drained, played, sent, started, stopped
from tests.simulation.traffic import Kind, Sending, plain_ones, sha256
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
async def _refused(world: World, place: str, denial: Denial | None = None) -> AsyncIterator[None]:
    outage = Outage(Trouble.GONE if denial is None else Trouble.DENIED, place, denial)
    world.outages.begin(outage)
    yield
    world.outages.end(outage)


def _most_receives(world: World) -> int:
    return max(message.receive_count for message in world.audit.originals.values())


@pytest.mark.parametrize(
    ("place", "denial"),
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
def test_what_is_refused_for_an_hour_costs_no_message_and_no_receive(
    place: str, denial: Denial | None
) -> None:
    async def story(world: World) -> None:
        sent(world, 50)
        async with _refused(world, place, denial):
            supervisors = [Supervisor(world, f"worker-{number}") for number in range(2)]
            await asyncio.sleep(_HOUR_SECONDS)
        assert all(len(supervisor.lives) > 5 for supervisor in supervisors)
        assert world.audit.source.handed_out_count == 0
        await drained(world)
        for supervisor in supervisors:
            await supervisor.stop()
        assert len(world.audit.store) == 50
        assert not world.audit.dead_letters.messages

    played(story)


@pytest.mark.parametrize(
    ("place", "denial"), [("dynamodb", _DENIED), ("aup-acceptances", None), ("sqs", _EXPIRED)]
)
def test_what_is_refused_under_load_costs_few_receives_and_no_message(
    place: str, denial: Denial | None
) -> None:
    async def story(world: World) -> None:
        supervisor = Supervisor(world, "worker")
        await asyncio.sleep(5)
        sent(world, 50)
        await world.audit.after(50, 5)
        async with _refused(world, place, denial):
            await asyncio.sleep(_HOUR_SECONDS)
        assert len(supervisor.lives) > 5
        await drained(world)
        await supervisor.stop()
        assert _most_receives(world) <= 3
        assert len(world.audit.store) == 50
        assert not world.audit.dead_letters.messages

    played(story)


@pytest.mark.parametrize("write_api", ["batch", "put"])
def test_a_denial_shorter_than_the_patience_ends_nothing_and_costs_nothing(write_api: str) -> None:
    async def story(world: World) -> None:
        worker = started(world)
        await asyncio.sleep(5)
        async with _refused(world, "dynamodb", _DENIED):
            sent(world, 20)
            await asyncio.sleep(world.settings.give_up_seconds - 20)
        await drained(world)
        assert world.audit.source.handed_out_count == 20
        assert await stopped(worker) == {OutcomeKind.RECORDED: 20}

    played(story, write_api=write_api)


def test_denials_with_success_between_them_do_not_add_up() -> None:
    async def story(world: World) -> None:
        worker = started(world)
        await asyncio.sleep(5)
        for number in range(4):
            async with _refused(world, "dynamodb", _DENIED):
                world.send(plain_ones(number + 1, START.isoformat())[number])
                await asyncio.sleep(world.settings.give_up_seconds / 2)
            await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 4}

    played(story)


def test_a_denial_of_long_ago_does_not_add_to_a_new_one() -> None:
    async def story(world: World) -> None:
        worker = started(world)
        await asyncio.sleep(5)
        [sending] = plain_ones(1, START.isoformat())
        async with _refused(world, "dynamodb", _DENIED):
            # Dies after the denial, and so without a write that proves that it is over.
            stated = {**sending.stated, "content_sha256": sha256("another text")}
            world.send(Sending(Kind.WRONG_HASH, json.dumps(stated), stated))
            await asyncio.sleep(5)
        await drained(world)
        await asyncio.sleep(2 * world.settings.give_up_seconds)
        async with _refused(world, "dynamodb", _DENIED):
            world.send(sending)
            await asyncio.sleep(5)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.DEAD_LETTERED: 1, OutcomeKind.RECORDED: 1}

    played(story)


@pytest.mark.parametrize("place", ["dynamodb", "sqs"])
def test_a_denial_longer_than_the_patience_ends_the_flow_with_everything_handed_back(
    place: str,
) -> None:
    async def story(world: World) -> None:
        worker = started(world)
        await asyncio.sleep(5)
        sent(world, 20)
        denial = _DENIED if place == "dynamodb" else _denying("ReceiveMessage")
        async with _refused(world, place, denial):
            await asyncio.wait([worker.task], timeout=world.settings.give_up_seconds + 60)
            worker.check()
            assert isinstance(worker.failure, GaveUpError)
            assert not world.audit.stranded(worker.name)
        assert not world.audit.dead_letters.messages
        other = started(world, "other")
        await drained(world)
        await stopped(other)
        assert len(world.audit.store) == 20

    played(story)


@pytest.mark.parametrize("denial", [None, _denying("SendMessageBatch")])
def test_what_must_die_stays_in_the_source_while_its_dead_letter_cannot_be_sent(
    denial: Denial | None,
) -> None:
    async def story(world: World) -> None:
        for number in range(20):
            world.send(Sending(Kind.MALFORMED, f"nonsense {number}"))
        worker = started(world)
        async with _refused(world, "sqs" if denial else "dead", denial):
            await asyncio.sleep(120)
            assert len(world.audit.bodies(world.audit.source)) == 20
            assert not world.audit.dead_letters.messages
        await drained(world)
        assert len(world.audit.bodies(world.audit.dead_letters)) == 20
        await stopped(worker)

    played(story)


def test_what_cannot_be_deleted_is_recorded_once_and_deleted_when_it_can_be() -> None:
    async def story(world: World) -> None:
        sent(world, 20)
        worker = started(world)
        async with _refused(world, "sqs", _denying("DeleteMessageBatch")):
            await asyncio.sleep(300)
            assert len(world.audit.store) == 20
            assert len(world.audit.source.messages) == 20
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 20}
        assert world.audit.source.handed_out_count == 20
        assert not world.audit.dead_letters.messages

    played(story)


@pytest.mark.parametrize("operation", ["ReceiveMessage", "SendMessageBatch", "DeleteMessageBatch"])
def test_a_replay_that_is_refused_midway_loses_no_dead_letter(operation: str) -> None:
    async def story(world: World) -> None:
        for number in range(30):
            world.send(Sending(Kind.MALFORMED, f"nonsense {number}"))
        worker = started(world)
        await drained(world)
        await stopped(worker)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await world.audit.after(12, 5)
        async with _refused(world, "sqs", _denying(operation)):
            await replay.task
            world.audit.check()
        bodies = world.audit.bodies(world.audit.dead_letters)
        assert len(bodies | world.audit.bodies(world.audit.source)) == 30

    played(story)
