"""Tests of each missing permission, for long enough that the redrive policy could act."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.simulation.faults import Denial
from tests.simulation.outages import Outage, OutageKind
from tests.simulation.scenario_steps import ProcessManager, run_scenario, wait_until_empty
from tests.simulation.traffic import HOPELESS, NEVER, Kind, SentMessage, plain_ones
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
        call: Operation that is denied without it.
        resource: Queue or table; any if empty.
        operation: Its name in the log.
        action: IAM action that the error of a start without it names.
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
        """Return the outage in which this permission is missing."""
        denial = Denial(
            code="AccessDeniedException",
            operations=frozenset({self.call}),
            resource=self.resource,
        )
        return Outage(OutageKind.DENIED, self.service, denial)


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


def _mixed(rounds: int) -> list[list[SentMessage]]:
    """Return rounds of a valid message, one sent twice, and two to be dead-lettered."""
    plain = plain_ones(2 * rounds, START.isoformat())
    mixed = []
    for number in range(rounds):
        good, doubled = plain[2 * number : 2 * number + 2]
        unknown = {**good.stated, "event_id": f"n-{number}", "version": NEVER}
        mixed.append([
            good,
            replace(doubled, copies=2),
            SentMessage(Kind.MALFORMED, f"nonsense {number}"),
            SentMessage(Kind.NO_POLICY, json.dumps(unknown), unknown),
        ])  # fmt: skip
    return mixed


async def _sent_over_an_hour(world: World, rounds: list[list[SentMessage]]) -> None:
    for sent_messages in rounds:
        for sent_message in sent_messages:
            world.send(sent_message)
        await asyncio.sleep(_HOUR_SECONDS / len(rounds))
        assert not _wrongly_dead(world)


def _wrongly_dead(world: World) -> set[str]:
    """Return bodies of dead letters that can be recorded."""
    bodies = {dead_letter.body for dead_letter in world.audit.dead_letters.messages.values()}
    return {body for body in bodies if world.audit.sent_messages[body].kind not in HOPELESS}


async def _finished(world: World, manager: ProcessManager) -> int:
    """Check that every message is settled; return the number of dead letters."""
    await wait_until_empty(world, 1200)
    await manager.stop()
    assert len(world.audit.store) == 2 * _ROUNDS
    assert not _wrongly_dead(world)
    assert len(world.audit.bodies(world.audit.dead_letters)) == 2 * _ROUNDS
    figures = [
        worker.pipeline.metrics.accounting for worker in manager.processes if worker.pipeline
    ]
    assert all(accounting.is_balanced for accounting in figures)
    dead_letter_count = len(world.audit.dead_letters.messages)
    assert (
        sum(accounting.by_kind[OutcomeKind.DEAD_LETTERED] for accounting in figures)
        == dead_letter_count
    )
    return dead_letter_count


@EACH_PERMISSION
def test_permission_missing_at_the_start_costs_no_receive(
    permission: Permission,
) -> None:
    async def scenario(world: World) -> None:
        outage = permission.missing()
        world.outages.begin(outage)
        manager = ProcessManager(world, "worker")
        await _sent_over_an_hour(world, _mixed(_ROUNDS))
        assert world.audit.source.received_count == 0
        assert len(manager.processes) > 5
        if permission.operation is Operation.RECEIVE:
            assert isinstance(manager.processes[0].failure, GaveUpError)
            assert world.trace.warnings[f"AWS call failed: {permission.operation}"] > 50
        else:
            assert isinstance(manager.processes[0].failure, AWSDeniedError)
            assert f"missing permissions: grant {permission.action} on " in str(
                manager.processes[0].failure
            )
        world.outages.end(outage)
        assert await _finished(world, manager) == 2 * _ROUNDS

    run_scenario(scenario, **_SETTINGS, write_api=permission.write_api)


@EACH_PERMISSION
def test_permission_revoked_during_a_run_dead_letters_no_recordable_message(
    permission: Permission,
) -> None:
    async def scenario(world: World) -> None:
        manager = ProcessManager(world, "worker")
        rounds = _mixed(_ROUNDS)
        for sent_messages in rounds[:5]:
            for sent_message in sent_messages:
                world.send(sent_message)
        await asyncio.sleep(2)
        outage = permission.missing()
        world.outages.begin(outage)
        await _sent_over_an_hour(world, rounds[5:])
        first = manager.processes[0]
        assert isinstance(first.failure, GaveUpError)
        assert first.ended_at < 1000
        assert len(manager.processes) > 5
        assert world.trace.warnings[f"AWS call failed: {permission.operation}"] >= 5
        assert world.trace.warnings["not ready"] >= 1
        assert max(each.receive_count for each in world.audit.originals.values()) <= 3
        world.outages.end(outage)
        dead_letter_count = await _finished(world, manager)
        # A new process does not know that an undeleted message was already dead-lettered.
        undeleted = 1 if permission.operation is Operation.DELETE else 0
        assert dead_letter_count == 2 * _ROUNDS + undeleted

    run_scenario(scenario, **_SETTINGS, write_api=permission.write_api)
