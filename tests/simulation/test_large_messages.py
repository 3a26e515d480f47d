"""Play messages up to the largest that SQS takes, beside small ones."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

import tests.simulation.traffic
import worker.domain.acceptance
from tests.simulation.sqs_messages import StoredMessage, size
from tests.simulation.story import drained, played, sent, started, stopped
from tests.simulation.traffic import Kind, Sending, padded, plain_ones
from tests.simulation.virtual_clock import START
from tests.simulation.world import World
from worker.domain.acceptance import EXTRA_MAX_BYTES
from worker.domain.dead_letter import ATTRIBUTE
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.domain.outcome import OutcomeKind

WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])
LETTERS = pytest.mark.parametrize("letter", ["x", "é"])
_ITEM_MAX_BYTES = 400 * 1024


def _large(size_bytes: int, letter: str = "x", number: int = 1000, **more: Any) -> Sending:
    stated = dict(plain_ones(1, START.isoformat())[0].stated)
    stated |= {"event_id": f"e-{number}", "user_id": f"u-{number}"}
    return padded(stated, size_bytes, letter, **more)


def _largest_recordable(letter: str) -> Sending:
    smaller = _large(EXTRA_MAX_BYTES, letter)
    taken = json.dumps(smaller.extra, ensure_ascii=False, separators=(",", ":")).encode()
    largest = _large(EXTRA_MAX_BYTES + EXTRA_MAX_BYTES - len(taken), letter)
    assert largest.kind is Kind.LARGE
    return largest


def _note(letter: StoredMessage) -> dict[str, Any]:
    note: dict[str, Any] = json.loads(letter.attributes[ATTRIBUTE]["StringValue"])
    return note


@WRITE_APIS
@LETTERS
def test_the_largest_record_is_kept_whole(write_api: str, letter: str) -> None:
    async def story(world: World) -> None:
        large = _largest_recordable(letter)
        world.send(large)
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 1}
        [item] = world.audit.store.items()
        assert json.loads(item["extra"]) == large.extra

    played(story, write_api=write_api)


@WRITE_APIS
@LETTERS
def test_one_letter_more_is_dead_lettered_unchanged_and_spoils_nothing(
    write_api: str, letter: str
) -> None:
    async def story(world: World) -> None:
        width = len(letter.encode())
        large = _large(len(_largest_recordable(letter).body.encode()) + width, letter)
        assert large.kind is Kind.OVERSIZED
        world.send(large)
        sent(world, 24)
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 24, OutcomeKind.DEAD_LETTERED: 1}
        assert world.audit.source.handed_out_count == 25
        [dead] = world.audit.dead_letters.messages.values()
        assert dead.body == large.body
        assert _note(dead)["detail"] == "unknown fields: must not exceed 350000 bytes in total"

    played(story, write_api=write_api)


@pytest.mark.parametrize(("room", "keys"), [(1000, 7), (100, 1), (0, 0)])
def test_the_largest_message_is_dead_lettered_with_as_much_of_a_note_as_finds_room(
    room: int, keys: int
) -> None:
    async def story(world: World) -> None:
        large = _large(MESSAGE_MAX_BYTES - room)
        world.send(large)
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.DEAD_LETTERED: 1}
        [dead] = world.audit.dead_letters.messages.values()
        assert dead.body == large.body
        assert len(_note(dead) if keys else dead.attributes) == keys

    played(story)


def test_ten_attributes_of_the_largest_message_survive_its_death() -> None:
    async def story(world: World) -> None:
        attributes = {
            f"name-{number}": {"DataType": "String", "StringValue": "value"} for number in range(10)
        }
        room = MESSAGE_MAX_BYTES - size("", attributes)
        world.send(_large(room, attributes=attributes))
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.DEAD_LETTERED: 1}
        [dead] = world.audit.dead_letters.messages.values()
        assert dead.attributes == attributes

    played(story)


@WRITE_APIS
def test_many_large_messages_at_once_fit_into_every_batch(write_api: str) -> None:
    async def story(world: World) -> None:
        for number in range(12):
            world.send(_large(340_000, number=1000 + number))
            world.send(_large(700_000 + number, number=2000 + number))
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 12, OutcomeKind.DEAD_LETTERED: 12}
        assert world.audit.source.handed_out_count == 24

    played(story, write_api=write_api, slots=60)


@WRITE_APIS
def test_an_item_that_the_table_does_not_take_dies_alone_and_says_why(
    write_api: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The worker's own bound keeps such items away: here it is lifted.
    for module in (worker.domain.acceptance, tests.simulation.traffic):
        monkeypatch.setattr(module, "EXTRA_MAX_BYTES", MESSAGE_MAX_BYTES)

    async def story(world: World) -> None:
        large = _large(_ITEM_MAX_BYTES + 1000)
        world.send(large)
        sent(world, 24)
        process = started(world)
        await asyncio.sleep(5)
        assert len(world.audit.store) == 24
        assert world.audit.source.handed_out_count < 24 + 8
        await drained(world, 600)
        kinds = await stopped(process)
        assert kinds[OutcomeKind.RECORDED] == 24
        assert kinds[OutcomeKind.DEAD_LETTERED] == 1
        [dead] = world.audit.dead_letters.messages.values()
        assert dead.body == large.body
        assert "Item size has exceeded the maximum allowed size" in _note(dead)["detail"]

    played(story, write_api=write_api)
