"""Tests of the origin of a message in its record, through dead letters, replays and edits."""

from __future__ import annotations

import asyncio
import hashlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    World,
    body,
    body_digest,
    clock,
    open_world,
    policy,
)
from tests.unit.pipeline.running import RunningPipeline, start
from worker.domain.evidence import timestamp, verify
from worker.operations.dead_letters.edit import edit_fields, parse_assignment
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay
from worker.operations.dead_letters.replay_options import ReplayOptions

TEN_ATTRIBUTES = {f"a{n}": {"DataType": "String", "StringValue": f"{n}"} for n in range(10)}
with_and_without_attributes = pytest.mark.parametrize(
    "attributes", [{}, TEN_ATTRIBUTES], ids=["none", "ten"]
)


def _digest(item: dict[str, Any], text: str) -> str:
    return body_digest(item, hashlib.sha256(text.encode()).hexdigest()).hex()


def _origin(item: dict[str, Any]) -> dict[str, Any]:
    names = ("received_at", "message_id", "replayed_at", "edits")
    found = {name: item[name] for name in names if name in item}
    return {**found, "body_digest": bytes(item["body_digest"]).hex()}


def _with_digest(expected: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    """Return an origin with the digest that a record has of the body."""
    kept = {name: value for name, value in expected.items() if name != "body"}
    return {**kept, "body_digest": _digest(item, expected["body"])}


async def _push(world: World, text: str, attributes: dict[str, Any]) -> dict[str, Any]:
    """Send a message, and return the origin that its record must have."""
    await world.push(text, attributes=attributes)
    (sent,) = world.sqs.queue(SOURCE).messages.values()
    sent_at = datetime.fromtimestamp(round(sent.sent_at, 3), UTC)  # as SentTimestamp
    return {
        "received_at": timestamp(sent_at),
        "message_id": sent.message_id,
        "body": text,
    }


async def _only_record(world: World, running: RunningPipeline) -> dict[str, Any]:
    """Wait for the record of the only message, and return it verified."""
    await running.until(recorded=1)
    await running.stop()
    (item,) = world.records()
    assert verify(item) == []
    return item


async def _replay(world: World, *assignments: str) -> tuple[str, str]:
    """Replay the only dead letter; return times before and after it."""
    edit = edit_fields([parse_assignment(each) for each in assignments]) if assignments else None
    options = ReplayOptions(edit=edit, operator="eve")
    await asyncio.sleep(3600)
    before = timestamp(clock())
    figures = await replay(
        world.source, world.dead_letters, DeadLetterFilter(), options=options, now=clock
    )
    assert figures.replayed == 1
    return before, timestamp(clock())


@with_and_without_attributes
@simulated
async def test_record_of_a_message_has_its_own_origin(attributes: dict[str, Any]) -> None:
    world = await open_world()
    expected = await _push(world, body(0), attributes)
    running = await start(world)
    item = await _only_record(world, running)
    assert _origin(item) == _with_digest(expected, item)


@with_and_without_attributes
@simulated
async def test_record_has_the_first_origin_after_dead_letters_and_replays(
    attributes: dict[str, Any],
) -> None:
    world = await open_world()
    repository = world.repository()
    expected = await _push(world, body(0, version="later"), attributes)
    running = RunningPipeline(world, repository, unknown_policy_seconds=5)
    for number in (1, 2):
        await running.until(dead_lettered=number)
        assert world.bodies(SOURCE) == []
        if number == 2:
            await repository.publish_policy(policy("later"))
        before, after = await _replay(world)
    item = await _only_record(world, running)
    found = _origin(item)
    assert before <= found.pop("replayed_at") <= after
    assert found == _with_digest(expected, item)


@with_and_without_attributes
@simulated
async def test_record_of_an_edited_message_names_each_edit_and_the_first_body(
    attributes: dict[str, Any],
) -> None:
    world = await open_world()
    text = body(0, version="wrong", channel="")
    expected = await _push(world, text, attributes)
    running = await start(world, unknown_policy_seconds=5)
    await running.until(dead_lettered=1)
    first = await _replay(world, "version=wrong too", "channel=web")
    await running.until(dead_lettered=2)
    (dead_letter,) = world.bodies(DEAD_LETTERS)
    second = await _replay(world, "version=2026-01")
    item = await _only_record(world, running)
    assert (item["version"], item["channel"]) == ("2026-01", "web")
    found = _origin(item)
    edits = json.loads(found.pop("edits"))
    for edit, (before, after) in zip(edits, (first, second), strict=True):
        assert before <= timestamp(datetime.fromisoformat(edit.pop("at"))) <= after
    assert edits == [
        {"by": "eve", "changed": names, "body_digest": _digest(item, before)}
        for names, before in ((["channel", "version"], text), (["version"], dead_letter))
    ]
    assert second[0] <= found.pop("replayed_at") <= second[1]
    assert found == _with_digest(expected, item)


@simulated
async def test_record_of_a_message_that_sqs_moved_has_its_origin() -> None:
    world = await open_world(max_receive_count=1)
    expected = await _push(world, body(0), {})
    await world.source.receive(1, wait_seconds=0, visibility_timeout_seconds=1)
    await asyncio.sleep(2)
    assert await world.source.receive(1, wait_seconds=0, visibility_timeout_seconds=1) == []
    before, after = await _replay(world)
    running = await start(world)
    item = await _only_record(world, running)
    found = _origin(item)
    assert before <= found.pop("replayed_at") <= after
    assert found == _with_digest(expected, item)
