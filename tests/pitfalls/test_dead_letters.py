"""Tests that dead letters keep the whole message and are not lost in a replay."""
# ruff: noqa: N803 - AWS's parameter names

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import pytest

from tests.pitfalls.running import RunningPipeline, messages, now, published
from tests.simulation.faults import FaultRates
from tests.simulation.simulated_queue import SimulatedQueue
from tests.simulation.sqs_messages import StoredMessage
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    World,
    body,
    clock,
    open_world,
)
from worker.domain.dead_letter import ATTRIBUTE, replays
from worker.domain.message import OutgoingMessage
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSUnavailableError, Reason
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import ReplayFigures, replay
from worker.operations.dead_letters.scan import VISIBILITY_TIMEOUT_SECONDS, Scan

TEN: dict[str, Any] = {
    **{f"text-{n}": {"DataType": "String.x", "StringValue": f"välue {n}"} for n in range(5)},
    **{f"count-{n}": {"DataType": "Number", "StringValue": f"{n}.50"} for n in range(3)},
    **{f"raw-{n}": {"DataType": "Binary.png", "BinaryValue": bytes([n, 255])} for n in range(2)},
}
ATTEMPTS: Final = 6
BAD: dict[str, Reason] = {
    "{": Reason.MALFORMED,
    body(1, user_id=""): Reason.INVALID,
    body(2, version="never"): Reason.UNKNOWN_POLICY,
    body(3, content_sha256="0" * 64): Reason.CONTENT_MISMATCH,
    body(0, channel="forged"): Reason.CONFLICT,
    body(9): Reason.EXHAUSTED,
}


class _OrderCheck:
    """Check that no message is deleted from one queue before the other queue has it.

    Attributes:
        deleted_too_early: Bodies of messages that violate this.
        received: Highest receive count of each body.
    """

    def __init__(self, leaving: SimulatedQueue, reaching: SimulatedQueue) -> None:
        self.deleted_too_early: list[str] = []
        self.deleted: Counter[str] = Counter()
        self.received: Counter[str] = Counter()
        self._reaching = reaching
        self._leaving = leaving
        self._reached: Counter[str] = Counter()
        leaving.observer = reaching.observer = self._observe

    def _observe(
        self, queue: SimulatedQueue, event: str, message: StoredMessage, _seconds: float
    ) -> None:
        if queue is self._reaching and event == "sent":
            self._reached[message.body] += 1
        if queue is not self._leaving:
            return
        self.received[message.body] = max(self.received[message.body], message.receive_count)
        if event == "deleted":
            self.deleted[message.body] += 1
            if self._reached[message.body] < self.deleted[message.body]:
                self.deleted_too_early.append(message.body)


async def _reject(*, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    assert QueueUrl
    return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in Entries]}


def _notes(world: World) -> dict[str, Mapping[str, Any]]:
    return {
        dead_letter.body: json.loads(dead_letter.attributes[ATTRIBUTE]["StringValue"])
        for dead_letter in world.sqs.queue(DEAD_LETTERS).messages.values()
    }


@simulated
async def test_invalid_messages_are_dead_lettered_with_their_reason_after_limited_attempts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await open_world(seed=1)
    repository = await published(world)
    world.dynamodb.spoil_item = lambda item: "ValidationError" if item["user_id"] == "u-9" else None
    await world.push(body(0))
    running = RunningPipeline(
        world, repository, unknown_policy_seconds=5, backoff_cap_seconds=5, max_attempts=ATTEMPTS
    )
    await running.until(
        lambda: running.kinds[OutcomeKind.RECORDED] == 1, 5, "the good one is recorded"
    )
    order = _OrderCheck(world.sqs.queue(SOURCE), world.sqs.queue(DEAD_LETTERS))
    world.faults.rates = FaultRates(failed_entry=0.3, lost_response=0.2)
    send = world.sqs.send_message_batch
    monkeypatch.setattr(world.sqs, "send_message_batch", _reject)
    for each in BAD:
        world.sqs.queue(SOURCE).send(each, {}, {}, None)
    await asyncio.sleep(30)
    monkeypatch.setattr(world.sqs, "send_message_batch", send)
    await running.until(lambda: not messages(world), 900, "none is retried any more")
    world.faults.stop()
    await running.stop()
    assert order.deleted_too_early == []
    assert {each: note["reason"] for each, note in _notes(world).items()} == BAD
    assert max(order.received.values()) <= 3 * ATTEMPTS


async def _listed(world: World) -> list[DeadLetter]:
    async with Scan(world.dead_letters, now=clock) as scan:
        return [dead_letter async for dead_letter in scan]


@simulated
async def test_expiry_of_a_dead_letter_is_known_whether_sqs_or_the_worker_moved_it() -> None:
    world = await open_world(max_receive_count=1)
    retention = timedelta(seconds=345_600)
    await world.push(body(), "{")
    sent_at = START + timedelta(seconds=now())
    await world.source.receive(1, wait_seconds=0, visibility_timeout_seconds=1)
    await asyncio.sleep(100_000)
    # SQS moves the one that has reached maxReceiveCount, the worker moves the other.
    running = RunningPipeline(world, await published(world))
    await running.until(lambda: not messages(world), 30, "both are dead-lettered")
    dead_lettered_at = START + timedelta(seconds=now())
    await running.stop()
    expiry = {each.message.body: each.expires_at for each in await _listed(world)}
    assert abs(expiry[body()] - (sent_at + retention)) < timedelta(seconds=5)
    assert abs(expiry["{"] - (dead_lettered_at + retention)) < timedelta(seconds=5)


async def _replayed(world: World) -> ReplayFigures:
    """Replay, and start again when a failed poll ends the replay."""
    while True:
        try:
            return await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
        except AWSUnavailableError:
            await asyncio.sleep(VISIBILITY_TIMEOUT_SECONDS)


@simulated
async def test_replay_keeps_attributes_and_deletes_only_after_a_confirmed_send() -> None:
    world = await open_world(seed=2)
    repository = await published(world)
    late = [body(number, version="2026-02", content_sha256=None) for number in range(25)]
    await world.push(*late, attributes=TEN)
    running = RunningPipeline(world, repository, unknown_policy_seconds=5, backoff_cap_seconds=5)
    await running.until(
        lambda: running.kinds[OutcomeKind.DEAD_LETTERED] == 25, 300, "all are dead-lettered"
    )
    await running.stop()
    order = _OrderCheck(world.sqs.queue(DEAD_LETTERS), world.sqs.queue(SOURCE))
    world.faults.rates = FaultRates(failed_entry=0.6, lost_response=0.1)
    figures = await _replayed(world)
    world.faults.stop()
    assert figures.failed + figures.undeleted > 0, "no entry failed"
    assert order.deleted_too_early == []
    await asyncio.sleep(VISIBILITY_TIMEOUT_SECONDS)  # some may still be in flight
    await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert order.deleted_too_early == []
    assert world.bodies(DEAD_LETTERS) == []
    assert set(world.bodies(SOURCE)) == set(late)
    for message in messages(world):
        # The history takes the place of the smallest attribute, and keeps it.
        history = replays(OutgoingMessage(message.body, message.attributes))
        assert len(message.attributes) == len(TEN)
        kept = {name: each for name, each in message.attributes.items() if name in TEN}
        assert {**kept, **history.moved_attributes} == TEN
