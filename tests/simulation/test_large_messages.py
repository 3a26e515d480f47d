"""Tests with messages up to the size limit of SQS, together with small ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import tests.simulation.traffic
import worker.domain.acceptance
from tests.simulation.scenario_steps import (
    run_scenario,
    send_valid,
    start_worker,
    stop_worker,
    wait_until_empty,
)
from tests.simulation.sqs_messages import StoredMessage, size
from tests.simulation.traffic import Kind, SentMessage, padded, plain_ones
from tests.simulation.virtual_clock import START
from tests.simulation.world import World
from worker.domain.acceptance import EXTRA_MAX_BYTES
from worker.domain.dead_letter import ATTRIBUTE
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.domain.outcome import OutcomeKind

WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])
CHARACTERS = pytest.mark.parametrize("character", ["x", "é"])
_ITEM_MAX_BYTES = 400 * 1024


def _large(size_bytes: int, character: str = "x", number: int = 1000, **more: Any) -> SentMessage:
    stated = dict(plain_ones(1, START.isoformat())[0].stated)
    stated |= {"event_id": f"e-{number}", "user_id": f"u-{number}"}
    return padded(stated, size_bytes, character, **more)


def _largest_recordable(character: str) -> SentMessage:
    smaller = _large(EXTRA_MAX_BYTES, character)
    packed = json.dumps(smaller.extra, ensure_ascii=False, separators=(",", ":")).encode()
    largest = _large(EXTRA_MAX_BYTES + EXTRA_MAX_BYTES - len(packed), character)
    assert largest.kind is Kind.LARGE
    return largest


def _info(character: StoredMessage) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(character.attributes[ATTRIBUTE]["StringValue"])
    return note


@WRITE_APIS
@CHARACTERS
def test_largest_record_is_stored_completely(write_api: str, character: str) -> None:
    async def scenario(world: World) -> None:
        large = _largest_recordable(character)
        world.send(large)
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 1}
        [item] = world.audit.store.items()
        assert json.loads(item["extra"]) == large.extra

    run_scenario(scenario, write_api=write_api)


@WRITE_APIS
@CHARACTERS
def test_one_character_more_is_dead_lettered_unchanged_without_affecting_others(
    write_api: str, character: str
) -> None:
    async def scenario(world: World) -> None:
        width = len(character.encode())
        large = _large(len(_largest_recordable(character).body.encode()) + width, character)
        assert large.kind is Kind.OVERSIZED
        world.send(large)
        send_valid(world, 24)
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 24, OutcomeKind.DEAD_LETTERED: 1}
        assert world.audit.source.received_count == 25
        [dead_letter] = world.audit.dead_letters.messages.values()
        assert dead_letter.body == large.body
        assert (
            _info(dead_letter)["detail"] == "unknown fields: must not exceed 350000 bytes in total"
        )

    run_scenario(scenario, write_api=write_api)


@pytest.mark.parametrize(("free_bytes", "keys"), [(1000, 7), (100, 1), (0, 0)])
def test_largest_message_is_dead_lettered_with_as_many_details_as_fit(
    free_bytes: int, keys: int
) -> None:
    async def scenario(world: World) -> None:
        large = _large(MESSAGE_MAX_BYTES - free_bytes)
        world.send(large)
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.DEAD_LETTERED: 1}
        [dead_letter] = world.audit.dead_letters.messages.values()
        assert dead_letter.body == large.body
        assert len(_info(dead_letter) if keys else dead_letter.attributes) == keys

    run_scenario(scenario)


def test_ten_attributes_of_the_largest_message_are_kept_in_its_dead_letter() -> None:
    async def scenario(world: World) -> None:
        attributes = {
            f"name-{number}": {"DataType": "String", "StringValue": "value"} for number in range(10)
        }
        free_bytes = MESSAGE_MAX_BYTES - size("", attributes)
        world.send(_large(free_bytes, attributes=attributes))
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.DEAD_LETTERED: 1}
        [dead_letter] = world.audit.dead_letters.messages.values()
        assert dead_letter.attributes == attributes

    run_scenario(scenario)


@WRITE_APIS
def test_many_concurrent_large_messages_fit_into_batches(write_api: str) -> None:
    async def scenario(world: World) -> None:
        for number in range(12):
            world.send(_large(340_000, number=1000 + number))
            world.send(_large(700_000 + number, number=2000 + number))
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {
            OutcomeKind.RECORDED: 12,
            OutcomeKind.DEAD_LETTERED: 12,
        }
        assert world.audit.source.received_count == 24

    run_scenario(scenario, write_api=write_api, slots=60)


@WRITE_APIS
def test_only_the_item_that_the_table_rejects_is_dead_lettered_with_the_cause(
    write_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker's own limit prevents such items and is lifted here.
    for module in (worker.domain.acceptance, tests.simulation.traffic):
        monkeypatch.setattr(module, "EXTRA_MAX_BYTES", MESSAGE_MAX_BYTES)

    async def scenario(world: World) -> None:
        large = _large(_ITEM_MAX_BYTES + 1000)
        world.send(large)
        send_valid(world, 24)
        process = start_worker(world)
        await asyncio.sleep(5)
        assert len(world.audit.store) == 24
        assert world.audit.source.received_count < 24 + 8
        await wait_until_empty(world, 600)
        kinds = await stop_worker(process)
        assert kinds[OutcomeKind.RECORDED] == 24
        assert kinds[OutcomeKind.DEAD_LETTERED] == 1
        [dead_letter] = world.audit.dead_letters.messages.values()
        assert dead_letter.body == large.body
        assert "Item size has exceeded the maximum allowed size" in _info(dead_letter)["detail"]

    run_scenario(scenario, write_api=write_api)
