"""The door to SQS keeps its promises on every server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.contract.queues import QueuePlace, QueueServer, is_empty, is_refused, take
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


async def put(queue: Queue, *outgoing: OutgoingMessage) -> None:
    for start in range(0, len(outgoing), 10):
        results = await queue.send(outgoing[start : start + 10])
        assert results == [None] * len(results)


# --- send, receive, settle ---------------------------------------------------------------------


async def test_what_is_sent_is_received_and_gone_when_deleted(
    queue: Queue, queue_server: QueueServer
) -> None:
    bodies = [f"body {n}" for n in range(10)]
    before = datetime.now(UTC)
    await put(queue, *messages(*bodies))
    received = await take(queue, 10)
    assert sorted(each.body for each in received) == bodies
    assert len({each.message_id for each in received}) == 10
    assert len({each.receipt_handle for each in received}) == 10
    assert {each.receive_count for each in received} == {1}
    if queue_server.name != "simulated":  # which has a date of its own
        assert all(abs(each.sent_at - before) < timedelta(seconds=30) for each in received)
    assert all(each.first_received_at >= each.sent_at for each in received)
    assert all(not each.attributes for each in received)
    assert await queue.delete(received) == [None] * 10
    state = await queue.state()
    assert (state.visible, state.in_flight, state.delayed) == (0, 0, 0)


async def test_a_receive_takes_no_more_than_asked_for_and_leaves_the_rest(queue: Queue) -> None:
    await put(queue, *messages(*map(str, range(5))))
    assert len(await queue.receive(2, wait_seconds=1, visibility_timeout_seconds=60)) <= 2
    assert len(await queue.receive(50, wait_seconds=1, visibility_timeout_seconds=60)) <= 10


async def test_an_empty_queue_answers_nothing(queue: Queue) -> None:
    assert await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=60) == []


async def test_a_handed_out_message_is_hidden_and_comes_back_when_its_time_is_over(
    queue: Queue,
) -> None:
    await put(queue, *messages("a"))
    (first,) = await take(queue, 1, visibility_timeout_seconds=1)
    assert await is_empty(queue)
    (second,) = await take(queue, 1)
    assert second.message_id == first.message_id
    assert second.receipt_handle != first.receipt_handle
    assert (second.receive_count, second.sent_at) == (2, first.sent_at)
    assert second.first_received_at == first.first_received_at


async def test_a_message_that_is_handed_back_is_there_at_once(queue: Queue) -> None:
    await put(queue, *messages("a", "b"))
    first, other = await take(queue, 2)
    assert await queue.change_visibility([(first, 0.0)]) == [None]
    (again,) = await queue.receive(10, wait_seconds=1, visibility_timeout_seconds=60)
    assert again.message_id == first.message_id != other.message_id
    assert again.receive_count == 2


async def test_an_extended_message_stays_hidden_beyond_its_first_time(queue: Queue) -> None:
    await put(queue, *messages("extended", "left"))
    received = await take(queue, 2, visibility_timeout_seconds=1)
    extended = next(each for each in received if each.body == "extended")
    assert await queue.change_visibility([(extended, 60.0)]) == [None]
    (back,) = await take(queue, 1)  # so the first time is over
    assert back.body == "left"
    assert await is_empty(queue)


async def test_a_delay_beyond_twelve_hours_is_cut_to_what_sqs_takes(queue: Queue) -> None:
    await put(queue, *messages("a"))
    (message,) = await take(queue, 1, visibility_timeout_seconds=1)
    # AWS counts twelve hours from the receive, and refuses a second more.
    result: AWSError | None
    try:
        (result,) = await queue.change_visibility([(message, 1e9)])
    except AWSRejectedError as error:
        result = error
    assert result is None or is_refused(result)


async def test_a_garbage_handle_fails_alone(queue: Queue, queue_server: QueueServer) -> None:
    await put(queue, *messages("a", "b"))
    good = await take(queue, 2)
    garbage = replace(good[0], receipt_handle="garbage")
    mixed = [good[0], garbage, good[1]]
    changed = await queue.change_visibility([(each, 30.0) for each in mixed])
    assert (changed[0], changed[2]) == (None, None)
    assert is_refused(changed[1])
    deleted = await queue.delete(mixed)
    assert (deleted[0], deleted[2]) == (None, None)
    assert is_refused(deleted[1]) == queue_server.refuses_garbage
    state = await queue.state()
    assert (state.visible, state.in_flight) == (0, 0)


async def test_deleting_a_second_time_is_no_trouble(
    queue: Queue, queue_server: QueueServer
) -> None:
    await put(queue, *messages("a"))
    (message,) = await take(queue, 1)
    assert await queue.delete([message]) == [None]
    (again,) = await queue.delete([message])
    assert is_refused(again) == queue_server.refuses_second_delete
    assert await is_empty(queue)


async def test_the_visibility_of_a_deleted_message_cannot_be_changed(queue: Queue) -> None:
    await put(queue, *messages("a", "b"))
    gone, held = await take(queue, 2)
    assert await queue.delete([gone]) == [None]
    results = await queue.change_visibility([(gone, 30.0), (held, 30.0)])
    assert is_refused(results[0])
    assert results[1] is None


async def test_a_stale_handle_cannot_be_trusted_and_the_newest_one_can(
    queue: Queue, queue_server: QueueServer
) -> None:
    await put(queue, *messages("a"))
    (stale,) = await take(queue, 1, visibility_timeout_seconds=0)
    (newest,) = await take(queue, 1)
    assert newest.message_id == stale.message_id
    (hidden,) = await queue.change_visibility([(stale, 30.0)])
    assert (hidden is None) == queue_server.stale_handle_hides
    await queue.delete([stale])  # AWS: "succeeds", and may delete nothing
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
async def test_a_body_comes_out_byte_for_byte(body: str, queue: Queue) -> None:
    await put(queue, *messages(body))
    (message,) = await take(queue, 1)
    assert message.body.encode() == body.encode()


async def test_characters_beyond_the_basic_plane_come_out_byte_for_byte(
    queue: Queue, queue_server: QueueServer
) -> None:
    error = await refusal(queue, ASTRAL_CHARACTERS)
    assert (error is None) == queue_server.takes_astral_characters
    if error is None:
        (message,) = await take(queue, 1)
        assert message.body == ASTRAL_CHARACTERS


@LARGE_BODY
async def test_a_body_beyond_one_mebibyte_is_refused(queue: Queue) -> None:
    assert (await refusal(queue, "x" * (MESSAGE_MAX_BYTES + 1))) is not None
    assert await is_empty(queue)


async def test_a_body_with_characters_that_sqs_forbids_is_not_taken_silently(
    queue: Queue, queue_server: QueueServer
) -> None:
    error = await refusal(queue, "a\x00b")
    assert (error is not None) == queue_server.refuses_control_characters
    if error is None:
        (message,) = await take(queue, 1)
        assert message.body == "a\x00b"


async def refusal(queue: Queue, body: str) -> AWSError | None:
    """Send one message that may fail as a call or as an entry."""
    try:
        (result,) = await queue.send(messages(body))
    except AWSRejectedError as error:
        return error
    return result


async def test_attributes_of_every_type_come_out_as_they_went_in(queue: Queue) -> None:
    await put(queue, OutgoingMessage("a", attributes=ATTRIBUTES))
    (message,) = await take(queue, 1)
    assert message.attributes == ATTRIBUTES


async def test_a_trace_header_of_any_producer_is_read(
    queue: Queue, queue_place: QueuePlace, queue_server: QueueServer
) -> None:
    system = {"AWSTraceHeader": {"DataType": "String", "StringValue": TRACE}}
    async with queue_place.client() as client:
        await client.send_message(
            QueueUrl=queue.url, MessageBody="a", MessageSystemAttributes=system
        )
    (message,) = await take(queue, 1)
    assert message.trace_header == (TRACE if queue_server.keeps_trace_header else None)


async def test_a_trace_header_travels_beside_ten_attributes(
    queue: Queue, queue_server: QueueServer
) -> None:
    ten = {f"a{n}": {"DataType": "String", "StringValue": str(n)} for n in range(10)}
    await put(queue, OutgoingMessage("a", attributes=ten, trace_header=TRACE))
    (message,) = await take(queue, 1)
    assert message.attributes == ten
    assert message.trace_header == (TRACE if queue_server.keeps_trace_header_of_batch else None)


async def test_the_group_of_a_fair_queue_is_handed_out(
    queue: Queue, queue_server: QueueServer
) -> None:
    await put(queue, OutgoingMessage("a", group_id="tenant-7"))
    (message,) = await take(queue, 1)
    assert message.group_id == ("tenant-7" if queue_server.keeps_group_id else None)


# --- waiting -----------------------------------------------------------------------------------


async def test_a_long_poll_wakes_when_a_message_arrives(queue: Queue) -> None:
    loop = asyncio.get_running_loop()
    polling = asyncio.create_task(queue.receive(10, wait_seconds=15, visibility_timeout_seconds=60))
    await asyncio.wait([polling], timeout=0.3)
    assert not polling.done()
    sent_at = loop.time()
    await put(queue, *messages("a"))
    (message,) = await polling
    assert message.body == "a"
    assert loop.time() - sent_at < 5


async def test_a_long_poll_ends_with_nothing_when_its_time_is_over(queue: Queue) -> None:
    loop = asyncio.get_running_loop()
    began_at = loop.time()
    assert await queue.receive(10, wait_seconds=1, visibility_timeout_seconds=60) == []
    assert 0.9 <= loop.time() - began_at < 5


# --- what the queue is -------------------------------------------------------------------------


async def test_the_state_tells_depths_retention_and_redrive_policy(
    empty_queue_place: QueuePlace,
) -> None:
    place = empty_queue_place
    names = place.settings()
    await place.make(names.dead_letter_queue, MessageRetentionPeriod="1209600")
    async with place.open(queue=names.dead_letter_queue) as (dead_letters, _):
        target = await dead_letters.state()
    redrive = json.dumps({"deadLetterTargetArn": target.arn, "maxReceiveCount": 7})
    await place.make(names.queue, MessageRetentionPeriod="3600", RedrivePolicy=redrive)
    async with place.open() as (queue, _):
        await put(queue, *messages("a", "b", "c"))
        await take(queue, 1)
        state = await queue.state()
    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.retention_seconds, target.retention_seconds) == (3600, 1209600)
    assert (state.max_receive_count, state.redrives_to) == (7, target.arn)
    assert (target.max_receive_count, target.redrives_to) == (None, None)
    assert state.arn.endswith(f":{names.queue}")
    assert target.arn.endswith(f":{names.dead_letter_queue}")
    assert (state.fifo, target.fifo) == (False, False)


async def test_a_queue_may_be_named_by_its_url(queue_place: QueuePlace, queue: Queue) -> None:
    await put(queue, *messages("a"))
    async with queue_place.open(queue=queue.url) as (by_url, _):
        assert by_url.url == queue.url
        assert len(await take(by_url, 1)) == 1


@pytest.mark.parametrize("missing", ["queue", "dead_letter_queue"])
async def test_a_queue_name_that_does_not_exist_is_told_with_the_way_out(
    missing: str, queue_place: QueuePlace
) -> None:
    hint = "queue 'nowhere' does not exist: create it with `aup-worker init`, or set AUP_QUEUE"
    with pytest.raises(AWSNotFoundError, match=hint):
        async with queue_place.open(**{missing: "nowhere"}):
            pass


async def test_every_call_to_a_queue_that_is_gone_says_so(
    queue_place: QueuePlace, queue: Queue
) -> None:
    await put(queue, *messages("a"))
    (message,) = await take(queue, 1)
    async with queue_place.open(queue=f"{queue.url}-gone") as (gone, _):
        for call in (
            gone.receive(1, wait_seconds=0, visibility_timeout_seconds=1),
            gone.send(messages("a")),
            gone.delete([message]),
            gone.change_visibility([(message, 1.0)]),
            gone.state(),
        ):
            with pytest.raises(AWSNotFoundError):
                await call


async def test_calls_are_counted_by_operation(queue: Queue, queue_place: QueuePlace) -> None:
    await put(queue, *messages("a"))
    (message,) = await take(queue, 1)
    await queue.change_visibility([(message, 30.0)])
    await queue.delete([message])
    await queue.state()
    assert queue_place.calls == {
        "SendMessageBatch": 1,
        "ReceiveMessage": 1,
        "ChangeMessageVisibilityBatch": 1,
        "DeleteMessageBatch": 1,
        "GetQueueAttributes": 1,
    }


# --- push --------------------------------------------------------------------------------------


async def test_pushed_lines_arrive_once_each_in_batches_of_ten(
    queue: Queue, queue_place: QueuePlace
) -> None:
    sent = [f"line {n}" for n in range(55)]
    figures = await push(queue, (Line("stdin", n, text) for n, text in enumerate(sent, 1)))
    assert (figures.sent, figures.failed, figures.failures) == (55, 0, [])
    assert queue_place.calls["SendMessageBatch"] == 6
    messages = await take(queue, 55)
    assert sorted(each.body for each in messages) == sorted(sent)
    assert await is_empty(queue)


@LARGE_BODY
async def test_pushed_lines_never_make_a_batch_beyond_one_mebibyte(
    queue: Queue, queue_place: QueuePlace
) -> None:
    half = MESSAGE_MAX_BYTES // 2
    sizes = [half, half, half + 1, half, 10, MESSAGE_MAX_BYTES, 1]
    texts = ["ä" * (size // 2) + "x" * (size % 2) for size in sizes]
    figures = await push(queue, (Line("f", n, text) for n, text in enumerate(texts, 1)))
    assert (figures.sent, figures.failed) == (7, 0)
    assert queue_place.calls["SendMessageBatch"] == 5
    messages = await take(queue, 7)
    assert sorted(len(each.body.encode()) for each in messages) == sorted(sizes)


@LARGE_BODY
async def test_a_pushed_line_that_sqs_refuses_is_named_and_the_others_arrive(
    queue: Queue,
) -> None:
    lines = [Line("f", 1, "a"), Line("f", 2, "x" * (MESSAGE_MAX_BYTES + 1)), Line("f", 3, "b")]
    figures = await push(queue, lines)
    assert (figures.sent, figures.failed) == (2, 1)
    assert figures.failures[0].startswith("f:2: ")
    assert sorted(each.body for each in await take(queue, 2)) == ["a", "b"]


async def test_the_queue_states_its_own_message_size_limit(queue: Queue) -> None:
    assert (await queue.state()).message_max_bytes == MESSAGE_MAX_BYTES
    await queue._client.set_queue_attributes(
        QueueUrl=queue.url, Attributes={"MaximumMessageSize": "2048"}
    )
    assert (await queue.state()).message_max_bytes == 2048
    assert queue.message_max_bytes == 2048
