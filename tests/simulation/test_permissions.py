"""Each missing permission by itself, for long enough that the redrive policy could act."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.simulation.faults import Denial
from tests.simulation.outages import Outage, Trouble
from tests.simulation.story import Supervisor, drained, played
from tests.simulation.traffic import HOPELESS, NEVER, Kind, Sending, plain_ones
from tests.simulation.virtual_clock import START
from tests.simulation.world import World
from worker.aws.access import Operation
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSDeniedError, GaveUpError

_HOUR_SECONDS = 3600
_SETTINGS: dict[str, Any] = {"max_receive_count": 4, "max_attempts": 3}
_ROUNDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Permission:
    """A permission that the worker needs.

    Attributes:
        service: "sqs" or "dynamodb".
        call: the call that is refused without it.
        resource: the queue or table; any, if empty.
        operation: what the log calls it.
        action: what the first line of a start without it asks for.
    """

    service: str
    call: str
    operation: Operation
    action: str
    resource: str = ""
    write_api: str = "batch"

    def __str__(self) -> str:
        return f"{self.call} {self.resource}".strip()

    def missing(self) -> Outage:
        """Return the outage that takes it away."""
        denial = Denial(
            code="AccessDeniedException",
            operations=frozenset({self.call}),
            resource=self.resource,
        )
        return Outage(Trouble.DENIED, self.service, denial)


EACH_PERMISSION = pytest.mark.parametrize(
    "permission",
    [
        Permission(
            service="sqs",
            call="ReceiveMessage",
            operation=Operation.RECEIVE,
            action="sqs:ReceiveMessage",
        ),
        Permission(
            service="sqs",
            call="DeleteMessageBatch",
            operation=Operation.DELETE,
            action="sqs:DeleteMessage",
        ),
        Permission(
            service="sqs",
            call="ChangeMessageVisibilityBatch",
            operation=Operation.VISIBILITY,
            action="sqs:ChangeMessageVisibility",
        ),
        Permission(
            service="sqs",
            call="SendMessageBatch",
            operation=Operation.DEAD_LETTER,
            action="sqs:SendMessage",
        ),
        *(
            Permission(
                service="dynamodb",
                call="GetItem",
                resource=table,
                operation=operation,
                action="dynamodb:GetItem",
            )
            for table, operation in (
                ("aup-policies", Operation.READ_POLICY),
                ("aup-acceptances", Operation.LOOK_UP),
            )
        ),
        *(
            Permission(
                service="dynamodb",
                call=call,
                operation=Operation.WRITE,
                action=action,
                write_api=write_api,
            )
            for call, action, write_api in (
                ("BatchExecuteStatement", "dynamodb:PartiQLInsert", "batch"),
                ("PartiQLInsert", "dynamodb:PartiQLInsert", "batch"),
                ("PutItem", "dynamodb:PutItem", "put"),
            )
        ),
    ],
    ids=str,
)


def _mixed(rounds: int) -> list[list[Sending]]:
    """Return rounds of a good message, one sent twice, and two that must be dead-lettered."""
    plain = plain_ones(2 * rounds, START.isoformat())
    mixed = []
    for number in range(rounds):
        good, doubled = plain[2 * number : 2 * number + 2]
        unknown = {**good.stated, "event_id": f"n-{number}", "version": NEVER}
        mixed.append([
            good,
            replace(doubled, copies=2),
            Sending(Kind.MALFORMED, f"nonsense {number}"),
            Sending(Kind.NO_POLICY, json.dumps(unknown), unknown),
        ])  # fmt: skip
    return mixed


async def _sent_over_an_hour(world: World, rounds: list[list[Sending]]) -> None:
    for sendings in rounds:
        for sending in sendings:
            world.send(sending)
        await asyncio.sleep(_HOUR_SECONDS / len(rounds))
        assert not _wrongly_dead(world)


def _wrongly_dead(world: World) -> set[str]:
    """Return the dead letters of messages that were recorded or can be."""
    bodies = {letter.body for letter in world.audit.dead_letters.messages.values()}
    return {body for body in bodies if world.audit.sendings[body].kind not in HOPELESS}


async def _finished(world: World, supervisor: Supervisor) -> int:
    """Check that everything finds its place with the permission; return the dead letters."""
    await drained(world, 1200)
    await supervisor.stop()
    assert len(world.audit.store) == 2 * _ROUNDS
    assert not _wrongly_dead(world)
    assert len(world.audit.bodies(world.audit.dead_letters)) == 2 * _ROUNDS
    figures = [worker.pipeline.metrics.accounting for worker in supervisor.lives if worker.pipeline]
    assert all(accounting.is_balanced for accounting in figures)
    letters = len(world.audit.dead_letters.messages)
    assert sum(accounting.by_kind[OutcomeKind.DEAD_LETTERED] for accounting in figures) == letters
    return letters


@EACH_PERMISSION
def test_a_permission_that_is_missing_at_the_start_costs_no_receive(
    permission: Permission,
) -> None:
    async def story(world: World) -> None:
        outage = permission.missing()
        world.outages.begin(outage)
        supervisor = Supervisor(world, "worker")
        await _sent_over_an_hour(world, _mixed(_ROUNDS))
        assert world.audit.source.handed_out_count == 0
        assert len(supervisor.lives) > 5
        if permission.operation is Operation.RECEIVE:
            assert isinstance(supervisor.lives[0].failure, GaveUpError)
            assert world.trace.warnings[f"AWS call failed: {permission.operation}"] > 50
        else:
            assert isinstance(supervisor.lives[0].failure, AWSDeniedError)
            assert f"missing permissions: grant {permission.action} on " in str(
                supervisor.lives[0].failure
            )
        world.outages.end(outage)
        assert await _finished(world, supervisor) == 2 * _ROUNDS

    played(story, **_SETTINGS, write_api=permission.write_api)


@EACH_PERMISSION
def test_a_permission_that_is_revoked_in_mid_run_makes_no_recorded_message_a_dead_letter(
    permission: Permission,
) -> None:
    async def story(world: World) -> None:
        supervisor = Supervisor(world, "worker")
        rounds = _mixed(_ROUNDS)
        for sendings in rounds[:5]:
            for sending in sendings:
                world.send(sending)
        await asyncio.sleep(2)
        outage = permission.missing()
        world.outages.begin(outage)
        await _sent_over_an_hour(world, rounds[5:])
        first = supervisor.lives[0]
        assert isinstance(first.failure, GaveUpError)
        assert first.ended_at < 1000
        assert len(supervisor.lives) > 5
        assert world.trace.warnings[f"AWS call failed: {permission.operation}"] >= 5
        assert world.trace.warnings["not ready"] >= 1
        assert max(each.receive_count for each in world.audit.originals.values()) <= 3
        world.outages.end(outage)
        letters = await _finished(world, supervisor)
        # Another process cannot know of the dead letter of a message that was never deleted.
        undeleted = 1 if permission.operation is Operation.DELETE else 0
        assert letters == 2 * _ROUNDS + undeleted

    played(story, **_SETTINGS, write_api=permission.write_api)
