"""The queue client behaves the same on every SQS server."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.contract.queues import (
    QueueEnvironment,
    QueueServer,
    is_empty,
    is_permanent_failure,
    receive,
)
from worker.aws.sqs import Queue
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import AWSError, AWSNotFoundError, AWSRejectedError
from worker.operations.push import Line, push

XML_CHARACTERS = "\t\n\r \u00e9 e\u0301 <&>\"' \\ \x7f\x85\u2028\ufffd 日本語 \u202e\ud7ff\ue000"
ASTRAL_CHARACTERS = "\U00010000 🐈 \U0010fffd"
ATTRIBUTES: dict[str, Any] = {
    "text": {"DataType": "String", "StringValue": "é 日本語 \t'\"<&>"},
    "number": {"DataType": "Number", "StringValue": "1234567890123456789.5"},
    "binary": {"DataType": "Binary", "BinaryValue": bytes(range(256))},
    "text.of_a_kind": {"DataType": "String.json", "StringValue": "{}"},
    "number.of-a-kind": {"DataType": "Number.int", "StringValue": "7"},
    "binary_of_a_kind": {"DataType": "Binary.png", "BinaryValue": b"\x89PNG"},
}
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
LARGE_BODY = pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")  # aiohttp


def messages(*bodies: str) -> list[OutgoingMessage]:
    return [OutgoingMessage(body) for body in bodies]


async def send(queue: Queue, *outgoing: OutgoingMessage) -> None:
    for start in range(0, len(outgoing), 10):
        results = await queue.send(outgoing[start : start + 10])
        assert results == [None] * len(results)


# --- send, receive, settle ---------------------------------------------------------------------


async def test_sent_messages_are_received_and_deleted(
    queue: Queue, queue_server: QueueServer
) -> None:
    bodies = [f"body {n}" for n in range(10)]
    before = datetime.now(UTC)
    await send(queue, *messages(*bodies))
    received = await receive(queue, 10)
    assert sorted(each.body for each in received) == bodies
    assert len({each.message_id for each in received}) == 10
    assert len({each.receipt_handle for each in received}) == 10
    assert {each.receive_count for each in received} == {1}
    if queue_server.name != "simulated":  # it has a simulated clock
        assert all(abs(each.sent_at - before) < timedelta(seconds=30) for each in received)
    assert all(each.first_received_at >= each.sent_at for each in received)
    assert all(not each.attributes for each in received)
    assert await queue.delete(received) == [None] * 10
    state = await queue.state()
    assert (state.visible, state.in_flight, state.delayed) == (0, 0, 0)


async def test_receive_returns_at_most_the_requested_number(queue: Queue) -> None:
    await send(queue, *messages(*map(str, range(5))))
    assert len(await queue.receive(2, wait_seconds=1, visibility_timeout_seconds=60)) <= 2
    assert len(await queue.receive(50, wait_seconds=1, visibility_timeout_seconds=60)) <= 10


async def test_receive_from_an_empty_queue_returns_nothing(queue: Queue) -> None:
    assert await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=60) == []


async def test_received_message_is_hidden_until_its_visibility_timeout(
    queue: Queue,
) -> None:
    await send(queue, *messages("a"))
    (first,) = await receive(queue, 1, visibility_timeout_seconds=1)
    assert await is_empty(queue)
    (second,) = await receive(queue, 1)
    assert second.message_id == first.message_id
    assert second.receipt_handle != first.receipt_handle
    assert (second.receive_count, second.sent_at) == (2, first.sent_at)
    assert second.first_received_at == first.first_received_at


async def test_returned_message_is_visible_immediately(queue: Queue) -> None:
    await send(queue, *messages("a", "b"))
    first, other = await receive(queue, 2)
    assert await queue.change_visibility([(first, 0.0)]) == [None]
    (again,) = await queue.receive(10, wait_seconds=1, visibility_timeout_seconds=60)
    assert again.message_id == first.message_id != other.message_id
    assert again.receive_count == 2


async def test_extended_message_stays_hidden_beyond_its_first_timeout(queue: Queue) -> None:
    await send(queue, *messages("extended", "left"))
    received = await receive(queue, 2, visibility_timeout_seconds=1)
    extended = next(each for each in received if each.body == "extended")
    assert await queue.change_visibility([(extended, 60.0)]) == [None]
    (back,) = await receive(queue, 1)  # so the first timeout has passed
    assert back.body == "left"
    assert await is_empty(queue)


async def test_visibility_beyond_twelve_hours_is_capped(queue: Queue) -> None:
    await send(queue, *messages("a"))
    (message,) = await receive(queue, 1, visibility_timeout_seconds=1)
    # AWS counts twelve hours from the receive and rejects one second more.
    result: AWSError | None
    try:
        (result,) = await queue.change_visibility([(message, 1e9)])
    except AWSRejectedError as error:
        result = error
    assert result is None or is_permanent_failure(result)


async def test_invalid_receipt_handle_fails_only_its_entry(
    queue: Queue, queue_server: QueueServer
) -> None:
    await send(queue, *messages("a", "b"))
    good = await receive(queue, 2)
    unknown = replace(good[0], receipt_handle="garbage")
    mixed = [good[0], unknown, good[1]]
    changed = await queue.change_visibility([(each, 30.0) for each in mixed])
    assert (changed[0], changed[2]) == (None, None)
    assert is_permanent_failure(changed[1])
    deleted = await queue.delete(mixed)
    assert (deleted[0], deleted[2]) == (None, None)
    assert is_permanent_failure(deleted[1]) == queue_server.rejects_unknown_handle
    state = await queue.state()
    assert (state.visible, state.in_flight) == (0, 0)


async def test_deleting_twice_is_harmless(queue: Queue, queue_server: QueueServer) -> None:
    await send(queue, *messages("a"))
    (message,) = await receive(queue, 1)
    assert await queue.delete([message]) == [None]
    (again,) = await queue.delete([message])
    assert is_permanent_failure(again) == queue_server.rejects_second_delete
    assert await is_empty(queue)


async def test_visibility_of_a_deleted_message_cannot_be_changed(queue: Queue) -> None:
    await send(queue, *messages("a", "b"))
    gone, held = await receive(queue, 2)
    assert await queue.delete([gone]) == [None]
    results = await queue.change_visibility([(gone, 30.0), (held, 30.0)])
    assert is_permanent_failure(results[0])
    assert results[1] is None


async def test_newest_receipt_handle_deletes_and_a_stale_one_may_not(
    queue: Queue, queue_server: QueueServer
) -> None:
    await send(queue, *messages("a"))
    (stale,) = await receive(queue, 1, visibility_timeout_seconds=0)
    (newest,) = await receive(queue, 1)
    assert newest.message_id == stale.message_id
    (hidden,) = await queue.change_visibility([(stale, 30.0)])
    assert (hidden is None) == queue_server.stale_handle_hides
    await queue.delete([stale])  # on AWS it succeeds, and may delete nothing
    state = await queue.state()
    assert state.in_flight == (0 if queue_server.stale_handle_deletes else 1)
    await queue.delete([newest])
    assert (await queue.state()).in_flight == 0


# --- content -----------------------------------------------------------------------------------


@LARGE_BODY
@pytest.mark.parametrize(
    "body",
    [
        XML_CHARACTERS,
        " \n",
        "null",
        json.dumps({"a": XML_CHARACTERS}),
        '{"a": "\\u0000"}',
        "x" * MESSAGE_MAX_BYTES,
        "é" * (MESSAGE_MAX_BYTES // 2),
        '"' * MESSAGE_MAX_BYTES,  # twice as long as JSON
    ],
    ids=["xml", "blank", "null", "json", "escaped", "1 MiB", "1 MiB wide", "1 MiB escaped"],
)
async def test_body_is_received_unchanged(body: str, queue: Queue) -> None:
    await send(queue, *messages(body))
    (message,) = await receive(queue, 1)
    assert message.body.encode() == body.encode()


async def test_characters_beyond_the_basic_plane_are_received_unchanged(
    queue: Queue, queue_server: QueueServer
) -> None:
    error = await rejection(queue, ASTRAL_CHARACTERS)
    assert (error is None) == queue_server.accepts_astral_characters
    if error is None:
        (message,) = await receive(queue, 1)
        assert message.body == ASTRAL_CHARACTERS


@LARGE_BODY
async def test_body_beyond_one_mebibyte_is_rejected(queue: Queue) -> None:
    assert (await rejection(queue, "x" * (MESSAGE_MAX_BYTES + 1))) is not None
    assert await is_empty(queue)


async def test_body_with_forbidden_characters_is_rejected_or_unchanged(
    queue: Queue, queue_server: QueueServer
) -> None:
    error = await rejection(queue, "a\x00b")
    assert (error is not None) == queue_server.rejects_control_characters
    if error is None:
        (message,) = await receive(queue, 1)
        assert message.body == "a\x00b"


async def rejection(queue: Queue, body: str) -> AWSError | None:
    """Send one message; return the error of the call or of the entry, or None."""
    try:
        (result,) = await queue.send(messages(body))
    except AWSRejectedError as error:
        return error
    return result


async def test_attributes_of_every_type_are_received_unchanged(queue: Queue) -> None:
    await send(queue, OutgoingMessage("a", attributes=ATTRIBUTES))
    (message,) = await receive(queue, 1)
    assert message.attributes == ATTRIBUTES


async def test_trace_header_of_any_producer_is_received(
    queue: Queue, queue_environment: QueueEnvironment, queue_server: QueueServer
) -> None:
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}}
    async with queue_environment.client() as client:
        await client.send_message(
            QueueUrl=queue.url, MessageBody="a", MessageSystemAttributes=system
        )
    (message,) = await receive(queue, 1)
    assert message.trace_header == (TRACE if queue_server.keeps_trace_header else None)


async def test_trace_header_is_sent_in_addition_to_ten_attributes(
    queue: Queue, queue_server: QueueServer
) -> None:
    ten = {f"a{n}": {"DataType": "String", "StringValue": str(n)} for n in range(10)}
    await send(queue, OutgoingMessage("a", attributes=ten, trace_header=TRACE))
    (message,) = await receive(queue, 1)
    assert message.attributes == ten
    assert message.trace_header == (TRACE if queue_server.keeps_trace_header_of_batch else None)


async def test_message_group_id_of_a_fair_queue_is_received(
    queue: Queue, queue_server: QueueServer
) -> None:
    await send(queue, OutgoingMessage("a", group_id="tenant-7"))
    (message,) = await receive(queue, 1)
    assert message.group_id == ("tenant-7" if queue_server.keeps_group_id else None)


# --- long polls --------------------------------------------------------------------------------


async def test_long_poll_returns_when_a_message_arrives(queue: Queue) -> None:
    loop = asyncio.get_running_loop()
    polling = asyncio.create_task(queue.receive(10, wait_seconds=15, visibility_timeout_seconds=60))
    await asyncio.wait([polling], timeout=0.3)
    assert not polling.done()
    sent_at = loop.time()
    await send(queue, *messages("a"))
    (message,) = await polling
    assert message.body == "a"
    assert loop.time() - sent_at < 5


async def test_long_poll_returns_nothing_after_its_wait_time(queue: Queue) -> None:
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    assert await queue.receive(10, wait_seconds=1, visibility_timeout_seconds=60) == []
    assert 0.9 <= loop.time() - began_at < 5


# --- state and settings ------------------------------------------------------------------------


async def test_state_has_depths_retention_and_redrive_policy(
    empty_queue_environment: QueueEnvironment,
) -> None:
    environment = empty_queue_environment
    names = environment.settings()
    await environment.create_queue(names.dead_letter_queue, MessageRetentionPeriod="1209600")
    async with environment.open(queue=names.dead_letter_queue) as (dead_letters, _):
        target = await dead_letters.state()
    redrive = json.dumps({"deadLetterTargetArn": target.arn, "maxReceiveCount": 7})
    await environment.create_queue(
        names.queue, MessageRetentionPeriod="3600", RedrivePolicy=redrive
    )
    async with environment.open() as (queue, _):
        await send(queue, *messages("a", "b", "c"))
        await receive(queue, 1)
        state = await queue.state()
    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.retention_seconds, target.retention_seconds) == (3600, 1209600)
    assert (state.max_receive_count, state.redrives_to) == (7, target.arn)
    assert (target.max_receive_count, target.redrives_to) == (None, None)
    assert state.arn.endswith(f":{names.queue}")
    assert target.arn.endswith(f":{names.dead_letter_queue}")
    assert (state.fifo, target.fifo) == (False, False)


async def test_queue_may_be_given_as_url(queue_environment: QueueEnvironment, queue: Queue) -> None:
    await send(queue, *messages("a"))
    async with queue_environment.open(queue=queue.url) as (by_url, _):
        assert by_url.url == queue.url
        assert len(await receive(by_url, 1)) == 1


@pytest.mark.parametrize("missing", ["queue", "dead_letter_queue"])
async def test_error_of_a_missing_queue_names_the_remedy(
    missing: str, queue_environment: QueueEnvironment
) -> None:
    hint = (
        r"queue 'nowhere' does not exist: create it .* --queue \(AUP_QUEUE\), --dead-letter-queue"
    )
    with pytest.raises(AWSNotFoundError, match=hint):
        async with queue_environment.open(**{missing: "nowhere"}):
            pass


async def test_every_call_to_a_missing_queue_raises_not_found(
    queue_environment: QueueEnvironment, queue: Queue
) -> None:
    await send(queue, *messages("a"))
    (message,) = await receive(queue, 1)
    async with queue_environment.open(queue=f"{queue.url}-gone") as (gone, _):
        for call in (
            gone.receive(1, wait_seconds=0, visibility_timeout_seconds=1),
            gone.send(messages("a")),
            gone.delete([message]),
            gone.change_visibility([(message, 1.0)]),
            gone.state(),
        ):
            with pytest.raises(AWSNotFoundError):
                await call


async def test_calls_are_counted_by_operation(
    queue: Queue, queue_environment: QueueEnvironment
) -> None:
    await send(queue, *messages("a"))
    (message,) = await receive(queue, 1)
    await queue.change_visibility([(message, 30.0)])
    await queue.delete([message])
    await queue.state()
    assert queue_environment.calls == {
        "SendMessageBatch": 1,
        "ReceiveMessage": 1,
        "ChangeMessageVisibilityBatch": 1,
        "DeleteMessageBatch": 1,
        "GetQueueAttributes": 1,
    }


# --- push --------------------------------------------------------------------------------------


async def test_push_sends_each_line_once_in_batches_of_ten(
    queue: Queue, queue_environment: QueueEnvironment
) -> None:
    sent = [f"line {n}" for n in range(55)]
    figures = await push(queue, (Line("stdin", n, text) for n, text in enumerate(sent, 1)))
    assert (figures.sent, figures.failed, figures.failures) == (55, 0, [])
    assert queue_environment.calls["SendMessageBatch"] == 6
    messages = await receive(queue, 55)
    assert sorted(each.body for each in messages) == sorted(sent)
    assert await is_empty(queue)


@LARGE_BODY
async def test_push_keeps_batches_within_one_mebibyte(
    queue: Queue, queue_environment: QueueEnvironment
) -> None:
    half = MESSAGE_MAX_BYTES // 2
    sizes = [half, half, half + 1, half, 10, MESSAGE_MAX_BYTES, 1]
    texts = ["ä" * (size // 2) + "x" * (size % 2) for size in sizes]
    figures = await push(queue, (Line("f", n, text) for n, text in enumerate(texts, 1)))
    assert (figures.sent, figures.failed) == (7, 0)
    assert queue_environment.calls["SendMessageBatch"] == 5
    messages = await receive(queue, 7)
    assert sorted(len(each.body.encode()) for each in messages) == sorted(sizes)


@LARGE_BODY
async def test_push_names_a_rejected_line_and_sends_the_others(
    queue: Queue,
) -> None:
    lines = [Line("f", 1, "a"), Line("f", 2, "x" * (MESSAGE_MAX_BYTES + 1)), Line("f", 3, "b")]
    figures = await push(queue, lines)
    assert (figures.sent, figures.failed) == (2, 1)
    assert figures.failures[0].startswith("f:2: ")
    assert sorted(each.body for each in await receive(queue, 2)) == ["a", "b"]


async def test_state_has_the_message_size_limit(queue: Queue) -> None:
    assert (await queue.state()).message_max_bytes == MESSAGE_MAX_BYTES
    await queue._client.set_queue_attributes(
        QueueUrl=queue.url, Attributes={"MaximumMessageSize": "2048"}
    )
    assert (await queue.state()).message_max_bytes == 2048
    assert queue.message_max_bytes == 2048
