"""Dead letters are looked at without loss and replayed without change, on every server."""

from __future__ import annotations

import json
from collections import Counter
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from msgspec.structs import replace

from tests.contract.facts import acceptance
from tests.contract.queues import QueueEnvironment, QueueServer, is_empty, receive
from worker.aws.sqs import Queue
from worker.domain.dead_letter import (
    ATTRIBUTE,
    REPLAYS_ATTRIBUTE,
    origin,
    replays,
    to_dead_letter,
)
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.operations.dead_letters import scan as module
from worker.operations.dead_letters.dead_letter import UNEXPLAINED, DeadLetter
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import Progress
from worker.operations.dead_letters.replay import (
    ReplayFigures,
    ReplayObserver,
    replay,
    replay_dry_run,
)
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.scan import Scan

TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
TEN: dict[str, Any] = {
    **{f"text{n}": {"DataType": "String", "StringValue": f"é {n}"} for n in range(4)},
    **{f"number{n}": {"DataType": "Number", "StringValue": f"{n}.5"} for n in range(3)},
    **{f"binary{n}": {"DataType": "Binary", "BinaryValue": bytes([n, 255])} for n in range(3)},
}


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def _short_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    # On these servers an empty short poll means an empty queue; on SQS only a long poll does.
    monkeypatch.setattr(module, "_POLL_SECONDS", 0)


async def scan(queue: Queue) -> list[DeadLetter]:
    async with Scan(queue, now=now) as scanned:
        return [letter async for letter in scanned]


async def send_and_receive(queue: Queue, *outgoing: OutgoingMessage) -> list[ReceivedMessage]:
    """Send messages and receive them, in the same order."""
    for start in range(0, len(outgoing), 10):
        results = await queue.send(outgoing[start : start + 10])
        assert results == [None] * len(results)
    messages = {each.body: each for each in await receive(queue, len(outgoing))}
    return [messages[each.body] for each in outgoing]


async def dead_letter(
    source: Queue, dead_letters: Queue, *kinds: tuple[str, str]
) -> list[ReceivedMessage]:
    """Send bodies and dead-letter each for its reason, as the worker does."""
    messages = await send_and_receive(source, *(OutgoingMessage(body) for body, _ in kinds))
    for start in range(0, len(kinds), 10):
        letters = [
            to_dead_letter(message, reason, f"detail of {message.body}", dead_at=now())
            for message, (_, reason) in list(zip(messages, kinds, strict=True))[start:][:10]
        ]
        assert await dead_letters.send(letters) == [None] * len(letters)
    for start in range(0, len(kinds), 10):
        batch = messages[start : start + 10]
        assert await source.delete(batch) == [None] * len(batch)
    return messages


@pytest.mark.usefixtures("_short_polls")
async def test_scan_returns_every_dead_letter_and_leaves_it_visible(
    queue: Queue, dead_letters: Queue
) -> None:
    originals = await dead_letter(
        queue, dead_letters, *((f"body {n}", "malformed") for n in range(25))
    )
    scanned = await scan(dead_letters)
    assert sorted(each.message.body for each in scanned) == sorted(each.body for each in originals)
    ids = {each.body: each.message_id for each in originals}
    assert {each.original_message_id for each in scanned} == set(ids.values())
    for letter in scanned:
        body = letter.message.body
        assert letter.original_message_id == ids[body]
        assert (letter.reason, letter.detail) == ("malformed", f"detail of {body}")
        assert letter.receive_count == 1
    # All visible again, at once and to everybody.
    state = await dead_letters.state()
    assert (state.visible, state.in_flight) == (25, 0)
    assert {each.message_id for each in await receive(dead_letters, 25)} == {
        each.message_id for each in scanned
    }


@pytest.mark.usefixtures("_short_polls")
async def test_interrupted_scan_makes_its_messages_visible_again(
    queue: Queue, dead_letters: Queue
) -> None:
    await dead_letter(queue, dead_letters, *((f"body {n}", "malformed") for n in range(12)))
    async with Scan(dead_letters, now=now) as scanned:
        await anext(scanned)
        assert (await dead_letters.state()).in_flight > 0
    state = await dead_letters.state()
    assert (state.visible, state.in_flight) == (12, 0)


@pytest.mark.usefixtures("_short_polls")
async def test_scan_of_an_empty_queue_is_empty(dead_letters: Queue) -> None:
    assert await scan(dead_letters) == []


async def test_replay_empties_the_dead_letter_queue(queue: Queue, dead_letters: Queue) -> None:
    bodies = [f"body {n}" for n in range(23)]
    await dead_letter(queue, dead_letters, *((body, "conflict") for body in bodies))
    figures = await replay(queue, dead_letters, DeadLetterFilter())
    assert figures.counts() == ReplayFigures(matched=23, replayed=23).counts()
    messages = await receive(queue, 23)
    assert sorted(each.body for each in messages) == sorted(bodies)
    assert {name for each in messages for name in each.attributes} == {REPLAYS_ATTRIBUTE}
    state = await dead_letters.state()
    assert (state.visible, state.in_flight) == (0, 0)


@pytest.mark.usefixtures("_short_polls")
async def test_replayed_dead_letter_never_becomes_visible_again(
    queue: Queue, dead_letters: Queue, queue_environment: QueueEnvironment
) -> None:
    await dead_letter(queue, dead_letters, *((f"body {n}", "conflict") for n in range(3)))
    queue_environment.calls.clear()
    shown: list[int] = []

    class CallRecorder(ReplayObserver):
        def on_result(self, *_: Any) -> None:
            shown.append(queue_environment.calls["ChangeMessageVisibilityBatch"])

    await replay(queue, dead_letters, DeadLetterFilter(), observer=CallRecorder())
    assert shown == [0, 0, 0]


@pytest.mark.usefixtures("_short_polls")
async def test_dry_run_moves_nothing(queue: Queue, dead_letters: Queue) -> None:
    await dead_letter(queue, dead_letters, ("a", "malformed"), ("b", "conflict"), ("c", "conflict"))
    filters = DeadLetterFilter(reasons=["conflict"])
    dry_run = DryRun(cast("Any", None), clock_skew_seconds=0, now=now)
    async with Scan(dead_letters, now=now) as scanned:
        verdicts = replay_dry_run(scanned, filters, ReplayOptions(dry_run=dry_run), sent=Progress())
        seen = [verdict.code async for _, verdict in verdicts]
    assert seen == ["conflict", "conflict"]
    assert await is_empty(queue)
    assert (await dead_letters.state()).visible == 3


@pytest.mark.usefixtures("_short_polls")
async def test_replay_filters_by_reason(queue: Queue, dead_letters: Queue) -> None:
    await dead_letter(
        queue,
        dead_letters,
        *((f"m{n}", "malformed") for n in range(3)),
        *((f"u{n}", "unknown_policy") for n in range(4)),
        *((f"c{n}", "conflict") for n in range(5)),
    )
    filters = DeadLetterFilter(reasons=["unknown_policy", "conflict"])
    assert (await replay(queue, dead_letters, filters)).replayed == 9
    assert {each.body[0] for each in await receive(queue, 9)} == {"u", "c"}
    assert Counter(each.reason for each in await scan(dead_letters)) == {"malformed": 3}


@pytest.mark.usefixtures("_short_polls")
async def test_replay_filters_by_either_message_id(queue: Queue, dead_letters: Queue) -> None:
    originals = await dead_letter(
        queue, dead_letters, *((f"body {n}", "conflict") for n in range(5))
    )
    own_id = next(each for each in await scan(dead_letters) if each.message.body == "body 1")
    filters = DeadLetterFilter(ids=[own_id.message_id, originals[3].message_id])
    assert (await replay(queue, dead_letters, filters)).replayed == 2
    assert {each.body for each in await receive(queue, 2)} == {"body 1", "body 3"}
    left = {each.message.body for each in await scan(dead_letters)}
    assert left == {"body 0", "body 2", "body 4"}


@pytest.mark.usefixtures("_short_polls")
@pytest.mark.parametrize("limit", [1, 10, 12])
async def test_replay_stops_at_the_limit(limit: int, queue: Queue, dead_letters: Queue) -> None:
    await dead_letter(queue, dead_letters, *((f"body {n}", "conflict") for n in range(13)))
    figures = await replay(queue, dead_letters, DeadLetterFilter(limit=limit))
    assert figures.counts() == ReplayFigures(matched=limit, replayed=limit).counts()
    assert len(await receive(queue, limit)) == limit
    assert await is_empty(queue)
    assert (await dead_letters.state()).visible == 13 - limit


@pytest.mark.usefixtures("_short_polls")
async def test_ten_attributes_survive_dead_lettering_and_replay(
    queue: Queue, dead_letters: Queue, queue_server: QueueServer
) -> None:
    trace = TRACE if queue_server.keeps_trace_header_of_batch else None
    group = "tenant-7" if queue_server.keeps_group_id else None
    body = "not JSON \t\r\n é 日本語"
    (original,) = await send_and_receive(queue, OutgoingMessage(body, TEN, trace, group))
    letter = to_dead_letter(original, "malformed", "at 1", dead_at=now())
    assert await dead_letters.send([letter]) == [None]
    assert await queue.delete([original]) == [None]

    (found,) = await scan(dead_letters)
    assert found.message.body == body
    assert ATTRIBUTE in found.message.attributes
    assert len(found.message.attributes) == 10
    kept = {name: value for name, value in found.message.attributes.items() if name != ATTRIBUTE}
    assert kept.items() <= TEN.items()
    assert (found.reason, found.detail) == ("malformed", "at 1")

    assert (await replay(queue, dead_letters, DeadLetterFilter())).replayed == 1
    (back,) = await receive(queue, 1)
    assert back.body == body
    # The history takes the place of the smallest attribute, and keeps it.
    assert len(back.attributes) == len(TEN)
    kept = {name: value for name, value in back.attributes.items() if name != REPLAYS_ATTRIBUTE}
    assert {**kept, **replays(back).moved_attributes} == TEN
    assert replace(origin(back), replayed_at=None) == origin(original)
    assert origin(back).replayed_at is not None
    assert (back.trace_header, back.group_id) == (trace, group)


@pytest.mark.usefixtures("_short_polls")
async def test_redriven_messages_get_their_reason_from_the_body(
    empty_queue_environment: QueueEnvironment,
) -> None:
    environment = empty_queue_environment
    names = environment.settings()
    await environment.create_queue(names.dead_letter_queue)
    async with environment.open(queue=names.dead_letter_queue) as (dead_letters, _):
        arn = (await dead_letters.state()).arn
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    await environment.create_queue(names.queue, RedrivePolicy=redrive)
    bodies = {
        acceptance(1).model_dump_json(exclude_none=True): UNEXPLAINED,
        "{": "malformed",
        "{}": "invalid",
    }
    async with environment.open() as (source, dead_letters):
        results = await source.send([OutgoingMessage(body) for body in bodies])
        assert results == [None] * 3
        for _ in range(2):
            await receive(source, 3, visibility_timeout_seconds=0)
        # The third receive would be one too many: the queue moves them instead.
        assert await source.receive(10, wait_seconds=1, visibility_timeout_seconds=0) == []
        scanned = await scan(dead_letters)
        assert {each.message.body: each.reason for each in scanned} == bodies
        assert {each.original_message_id for each in scanned} == {""}
        figures = await replay(source, dead_letters, DeadLetterFilter(reasons=["invalid"]))
        assert figures.replayed == 1
        (back,) = await receive(source, 1)
        assert back.body == "{}"
