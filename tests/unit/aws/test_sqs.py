"""State what the only door to SQS lets through, entry by entry."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import md5
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests import private
from tests.private import betrayed
from tests.simulation.aws_errors import sqs_error
from tests.simulation.faults import Faults
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import ABSENT, DEAD_LETTERS, SOURCE, open_world, received_message, settings
from worker.aws.sqs import Queue, open_queues
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.errors import (
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
    UsageError,
)


class _Client:
    """Give one answer to every call and note the request."""

    def __init__(self, answer: dict[str, Any]) -> None:
        self.answer = answer
        self.requests: list[dict[str, Any]] = []

    async def _call(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        return self.answer

    receive_message = delete_message_batch = send_message_batch = _call
    change_message_visibility_batch = get_queue_attributes = get_queue_url = _call


def _queue(client: Any, url: str = "https://sqs.test/q") -> Queue:
    return Queue(client, url)


async def _taken(queue: Queue, most: int = 10) -> list[ReceivedMessage]:
    return await queue.receive(most, wait_seconds=0, visibility_timeout_seconds=30)


_RECEIVED = {"MessageId": "m-1", "ReceiptHandle": "h-1", "Body": "{}"}


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"ReceiptHandle": ABSENT},
        {"MessageId": 5},
        {"Body": ABSENT},
        {"Body": ["{}"]},
        {"Body": private.IP, "MD5OfBody": "0" * 32},
        {"MD5OfBody": 5},
        {"Attributes": "none"},
        {"Attributes": {"SentTimestamp": private.IP}},
        {"Attributes": {"SentTimestamp": "9" * 30}},
        {"Attributes": {"ApproximateReceiveCount": private.SESSION_ID}},
        {"Attributes": {"AWSTraceHeader": {"ip": private.IP}}},
        {"Attributes": {"MessageGroupId": 5}},
        {"MessageAttributes": [private.IP]},
        {"MessageAttributes": {"a": private.IP}},
        {"MessageAttributes": {"a": {"StringValue": private.IP}}},
        {"MessageAttributes": {"a": {"DataType": "String", "StringValue": 5}}},
        {"MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "not base64"}}},
        "a message",
        5,
        None,
    ],
)
@simulated
async def test_a_message_that_cannot_be_read_is_left_and_the_others_are_received(
    message: Any,
) -> None:
    if message:
        message = {**_RECEIVED, **message} if isinstance(message, dict) else message
    if isinstance(message, dict):
        message = {name: value for name, value in message.items() if value is not ABSENT}
    events = Counter[str]()
    answer = {"Messages": [_RECEIVED, message, {**_RECEIVED, "MessageId": "m-2"}]}
    queue = Queue(cast("Any", _Client(answer)), "https://sqs.test/q", events=events)
    with capture_logs() as logs:
        taken = await _taken(queue)
    assert [each.message_id for each in taken] == ["m-1", "m-2"]
    assert all(each.memory_bytes > 0 for each in taken)
    assert events == {"unreadable_messages": 1}
    (line,) = logs
    assert line["outcome"] == "left"
    assert not betrayed(str(line))


@simulated
async def test_the_log_names_a_message_that_cannot_be_read_by_nothing_but_a_uuid() -> None:
    named = "1ba64e23-9d2e-4b5b-8d5a-3f2f3c7b9a10"
    ids = [named, private.IP, private.SESSION_ID, None]
    answer = {"Messages": [{"MessageId": each, "Body": 5} for each in ids]}
    with capture_logs() as logs:
        assert await _taken(_queue(_Client(answer))) == []
    assert [line["message_id"] for line in logs] == [named, None, None, None]


@pytest.mark.parametrize("messages", [{"0": _RECEIVED}, "text", 5, True])
@simulated
async def test_messages_that_are_no_list_are_unavailable(messages: Any) -> None:
    with pytest.raises(AWSUnavailableError, match=r"ReceiveMessage q: .*Messages: not an array"):
        await _taken(_queue(_Client({"Messages": messages})))


@simulated
async def test_more_messages_than_requested_are_all_returned_to_the_caller() -> None:
    answer = {"Messages": [{**_RECEIVED, "MessageId": f"m-{number}"} for number in range(12)]}
    assert len(await _taken(_queue(_Client(answer)), 1)) == 12


@simulated
async def test_what_is_sent_is_received_whole() -> None:
    world = await open_world()
    attributes = {
        "kind": {"DataType": "String", "StringValue": "é"},
        "photo": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
        "count": {"DataType": "Number.int", "StringValue": "7"},
    }
    sent = OutgoingMessage("bödy\n", attributes, trace_header="Root=1-2-3", group_id="tenant")
    assert await world.source.send([sent]) == [None]
    (taken,) = await _taken(world.source)
    assert (taken.body, taken.attributes) == ("bödy\n", attributes)
    assert (taken.trace_header, taken.group_id) == ("Root=1-2-3", "tenant")
    assert taken.receive_count == 1
    assert 0 <= (taken.sent_at - START).total_seconds() < 1
    assert taken.first_received_at >= taken.sent_at


@simulated
async def test_an_empty_answer_is_no_message() -> None:
    world = await open_world()
    assert await _taken(world.source) == []


@simulated
async def test_a_poll_asks_for_ten_at_most() -> None:
    client = _Client({})
    await _taken(_queue(client), 500)
    assert client.requests[0]["MaxNumberOfMessages"] == 10
    await _taken(_queue(client), 3)
    assert client.requests[1]["MaxNumberOfMessages"] == 3


@simulated
async def test_a_server_that_tells_little_is_believed_in_what_it_tells() -> None:
    client = _Client({"Messages": [{"MessageId": "m", "ReceiptHandle": "h", "Body": "b"}]})
    (taken,) = await _taken(_queue(client))
    epoch = datetime.fromtimestamp(0, UTC)
    assert taken == ReceivedMessage("m", "h", "b", sent_at=epoch, first_received_at=epoch)


@simulated
async def test_a_message_brings_the_date_of_its_response() -> None:
    date = "Sun, 22 Nov 2026 10:00:00 GMT"
    metadata = {"HTTPHeaders": {"date": date}}
    client = _Client({"Messages": [_RECEIVED, _RECEIVED], "ResponseMetadata": metadata})
    assert [each.date for each in await _taken(_queue(client))] == [date, date]
    nothings: list[dict[str, Any]] = [{}, {"HTTPHeaders": {}}]
    for nothing in nothings:
        client = _Client({"Messages": [_RECEIVED], "ResponseMetadata": nothing})
        assert [each.date for each in await _taken(_queue(client))] == [""]


@simulated
async def test_the_polls_go_through_their_own_client() -> None:
    polls, rest = _Client({}), _Client({})
    queue = Queue(cast("Any", rest), "https://sqs.test/q", poll_client=cast("Any", polls))
    await _taken(queue)
    assert (len(polls.requests), len(rest.requests)) == (1, 0)


@simulated
async def test_a_poll_has_its_wait_and_a_margin_before_it_is_given_up() -> None:
    class Hanging(_Client):
        async def receive_message(self, **_: Any) -> dict[str, Any]:
            await asyncio.sleep(10_000)
            return {}

    with pytest.raises(AWSUnavailableError, match="ReceiveMessage"):
        await _queue(Hanging({})).receive(1, wait_seconds=20, visibility_timeout_seconds=30)
    assert 20 < asyncio.get_running_loop().time() < 40


ENTRIES = {
    "Successful": [{"Id": "0"}],
    "Failed": [
        {"Id": "1", "Code": "ReceiptHandleIsInvalid", "SenderFault": True, "Message": "gone"},
        {"Id": "2", "Code": "InternalError", "SenderFault": False},
        {"Id": "3", "Code": "RequestThrottled", "SenderFault": False},
    ],
}


@pytest.mark.parametrize("operation", ["delete", "change_visibility"])
@simulated
async def test_every_entry_of_a_batch_answer_is_read(operation: str) -> None:
    queue = _queue(_Client(ENTRIES))
    messages = [received_message(number) for number in range(5)]
    entries = messages if operation == "delete" else [(each, 5.0) for each in messages]
    results = await getattr(queue, operation)(entries)
    assert results[0] is None
    kinds = [type(result) for result in results[1:]]
    # The last one is not mentioned at all: that is no success.
    assert kinds == [LeaseLostError, AWSUnavailableError, AWSThrottledError, AWSUnavailableError]


@pytest.mark.parametrize("operation", ["delete", "change_visibility", "send"])
@simulated
async def test_entry_in_both_lists_has_not_succeeded(operation: str) -> None:
    success = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": md5(b"abc").hexdigest()}  # noqa: S324 - SQS's
    failure = {"Id": "0", "Code": "InternalError", "SenderFault": False}
    queue = _queue(_Client({"Successful": [success], "Failed": [failure]}))
    entry = {"delete": received_message(), "change_visibility": (received_message(), 5.0)}
    (result,) = await getattr(queue, operation)([entry.get(operation, OutgoingMessage("abc"))])
    assert isinstance(result, AWSUnavailableError)


_OK_0, _OK_1 = {"Id": "0"}, {"Id": "1"}
_FAILED_1 = {"Id": "1", "Code": "ReceiptHandleIsInvalid"}
# What the entries 0 and 1 came to; the third one is always told to have succeeded.
MALFORMED: dict[str, tuple[Any, list[type[AWSError] | None]]] = {
    "in both lists": (([_OK_0, _OK_1], [_FAILED_1]), [None, AWSUnavailableError]),
    "succeeded twice": (([_OK_0, _OK_1, _OK_1], []), [None, AWSUnavailableError]),
    "failed twice": (([_OK_0], [_FAILED_1, _FAILED_1]), [None, AWSUnavailableError]),
    "missing": (([_OK_0], []), [None, AWSUnavailableError]),
    "unknown ids": (
        ([_OK_0, {"Id": "3"}, {"Id": "-1"}, {"Id": "01"}, {"Id": ""}, {"Id": "x"}], [_FAILED_1]),
        [None, LeaseLostError],
    ),
    "ids that are no strings": (
        ([_OK_0, {"Id": 1}, {"Id": True}, {"Id": None}, {"Id": ["1"]}, {}], []),
        [None, AWSUnavailableError],
    ),
    "entries that are no objects": (
        ([_OK_0, "1", 1, None, ["1"]], ["1", _FAILED_1]),
        [None, LeaseLostError],
    ),
    "no code": (([_OK_0], [{"Id": "1"}]), [None, AWSUnavailableError]),
    "a code that is no string": (
        ([_OK_0], [{"Id": "1", "Code": 5}]),
        [None, AWSUnavailableError],
    ),
    "a code and a text that are none": (
        ([_OK_0], [{"Id": "1", "Code": "OverLimit", "Message": {"ip": private.IP}}]),
        [None, AWSThrottledError],
    ),
}


@pytest.mark.parametrize("operation", ["delete", "change_visibility"])
@pytest.mark.parametrize("name", MALFORMED)
@simulated
async def test_an_entry_named_other_than_once_is_unknown_and_disturbs_no_other(
    operation: str, name: str
) -> None:
    (successful, failed), expected = MALFORMED[name]
    answer = {"Successful": [*successful, {"Id": "2"}], "Failed": failed}
    messages = [received_message(number) for number in range(3)]
    entries = messages if operation == "delete" else [(each, 5.0) for each in messages]
    results = await getattr(_queue(_Client(answer)), operation)(entries)
    kinds = [type(result) if result is not None else None for result in results]
    assert kinds == [*expected, None]
    assert not betrayed(str(results))


@pytest.mark.parametrize("name", ["Successful", "Failed"])
@pytest.mark.parametrize("value", [{"0": _OK_0}, "0", 5, True])
@simulated
async def test_a_batch_response_whose_lists_are_none_is_unknown_as_a_whole(
    name: str, value: Any
) -> None:
    queue = _queue(_Client({"Successful": [_OK_0], name: value}))
    with pytest.raises(AWSUnavailableError, match=f"{name}: not an array"):
        await queue.delete([received_message()])


@simulated
async def test_an_entry_counts_as_sent_only_with_an_id_and_the_bodys_digest() -> None:
    good = "900150983cd24fb0d6963f7d28e17f72"  # MD5 of abc
    answer = {
        "Successful": [
            {"Id": "0", "MessageId": "m", "MD5OfMessageBody": good},
            {"Id": "1", "MessageId": "m", "MD5OfMessageBody": "0" * 32},
            {"Id": "2", "MD5OfMessageBody": good},
            {"Id": "3", "MessageId": "m"},
            {"Id": "5", "MessageId": "m", "MD5OfMessageBody": good},
        ],
        "Failed": [
            {"Id": "4", "Code": "InvalidMessageContents", "SenderFault": True},
            {"Id": "5", "Code": "InternalError", "SenderFault": False},
        ],
    }
    results = await _queue(_Client(answer)).send([OutgoingMessage("abc")] * 7)
    assert results[0] is None
    assert [type(result) for result in results[1:]] == [
        *[AWSUnavailableError] * 3,
        AWSRejectedError,
        AWSUnavailableError,
        AWSUnavailableError,
    ]


@simulated
async def test_visibility_is_in_whole_seconds_up_to_twelve_hours() -> None:
    client = _Client({})
    changes = [(received_message(), seconds) for seconds in (0.0, 0.6, 29.6, 99_999.0)]
    await _queue(client).change_visibility(changes)
    entries = client.requests[0]["Entries"]
    assert [entry["VisibilityTimeout"] for entry in entries] == [0, 1, 30, 43_200]


@simulated
async def test_the_state_tells_depth_retention_and_redrive() -> None:
    world = await open_world(max_receive_count=9)
    await world.push("a", "b", "c")
    await _taken(world.source, 1)
    state = await world.source.state()
    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.max_receive_count, state.fifo) == (9, False)
    assert state.redrives_to == world.sqs.queue(DEAD_LETTERS).arn
    dead = await world.dead_letters.state()
    assert (dead.max_receive_count, dead.redrives_to, dead.retention_seconds) == (
        None,
        None,
        345_600,
    )


@simulated
async def test_queues_are_opened_by_name_with_pools_of_their_own() -> None:
    world = await open_world()
    chosen = settings(poll_concurrency=13, settle_concurrency=5, wait_seconds=20)
    session = cast("Any", world.session)
    async with open_queues(chosen, session=session) as (source, dead_letters):
        assert source.url == world.sqs.queue(SOURCE).url
        assert dead_letters.url == world.sqs.queue(DEAD_LETTERS).url
        await world.push("a")
        assert len(await _taken(source)) == 1
    assert world.session.open_count == 0
    polls, rest = (options["config"] for _, _, options in world.session.openings)
    assert polls.max_pool_connections >= 13
    assert polls.read_timeout > 20
    assert polls.retries["total_max_attempts"] == 1
    # Deletes, returns, dead letters and extensions, each of that concurrency.
    assert rest.max_pool_connections >= 4 * 5


@simulated
async def test_a_queue_that_does_not_exist_is_named_with_what_to_do() -> None:
    world = await open_world()
    chosen = settings(queue="missing")
    with pytest.raises(AWSNotFoundError, match=r"'missing' does not exist.*AUP_QUEUE"):
        async with open_queues(chosen, session=cast("Any", world.session)):
            pass
    assert world.session.open_count == 0


@simulated
async def test_calls_are_counted_by_operation() -> None:
    world = await open_world()
    await world.push("a")
    await world.source.delete(await _taken(world.source))
    assert world.calls == {"SendMessageBatch": 1, "ReceiveMessage": 1, "DeleteMessageBatch": 1}
    assert world.bodies(SOURCE) == []


class _Refusing(SimulatedSQS):
    """Refuse every batch that has a certain entry, as a whole."""

    code = "BatchRequestTooLong"

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.sizes: list[int] = []

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._judged("SendMessageBatch", super().send_message_batch, request)

    async def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._judged("DeleteMessageBatch", super().delete_message_batch, request)

    async def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        name = "ChangeMessageVisibilityBatch"
        return await self._judged(name, super().change_message_visibility_batch, request)

    async def _judged(self, name: str, call: Any, request: dict[str, Any]) -> dict[str, Any]:
        self.sizes.append(len(request["Entries"]))
        if any("bad" in json.dumps(entry) for entry in request["Entries"]):
            raise sqs_error(name, self.code)
        answer: dict[str, Any] = await call(**request)
        return answer


async def _refusing(code: str) -> tuple[_Refusing, Queue]:
    sqs = _Refusing(Faults(0))
    sqs.code = code
    url = (await sqs.create_queue(QueueName=SOURCE))["QueueUrl"]
    return sqs, _queue(sqs, url)


@pytest.mark.parametrize(
    "code", ["BatchRequestTooLong", "InvalidParameterValue", "InvalidMessageContents"]
)
@simulated
async def test_batch_refused_as_a_whole_fails_only_the_entry_that_caused_it(code: str) -> None:
    sqs, queue = await _refusing(code)
    bodies = [f"good {number}" for number in range(10)]
    bodies[6] = "bad"
    results = await queue.send([OutgoingMessage(each) for each in bodies])
    assert isinstance(results[6], AWSRejectedError)
    assert results[:6] + results[7:] == [None] * 9
    sent = [each.body for each in sqs.queue(SOURCE).messages.values()]
    assert sent == bodies[:6] + bodies[7:]
    assert len(sqs.sizes) <= 9


@pytest.mark.parametrize("operation", ["delete", "change_visibility"])
@simulated
async def test_handle_refused_with_its_whole_batch_fails_alone(operation: str) -> None:
    _, queue = await _refusing("ReceiptHandleIsInvalid")
    await queue.send([OutgoingMessage(str(number)) for number in range(10)])
    taken = await _taken(queue)
    taken[3] = replace(taken[3], receipt_handle="bad")
    if operation == "delete":
        results = await queue.delete(taken)
    else:
        results = await queue.change_visibility([(each, 60) for each in taken])
    assert isinstance(results[3], LeaseLostError)
    assert results[:3] + results[4:] == [None] * 9


@simulated
async def test_single_refused_entry_and_an_empty_batch_are_not_split() -> None:
    sqs, queue = await _refusing("InvalidParameterValue")
    with pytest.raises(AWSRejectedError):
        await queue.send([OutgoingMessage("bad")])
    assert sqs.sizes == [1]


@pytest.mark.parametrize(
    ("stated", "limit"),
    [
        ({}, 1_048_576),
        ({"MaximumMessageSize": "1024"}, 1024),
        ({"MaximumMessageSize": "2097152"}, 1_048_576),
    ],
)
@simulated
async def test_message_size_limit_is_read_with_the_other_attributes(
    stated: dict[str, str], limit: int
) -> None:
    queue = _queue(_Client({"Attributes": stated}))
    assert queue.message_max_bytes == 1_048_576
    assert (await queue.state()).message_max_bytes == limit
    assert queue.message_max_bytes == limit


@pytest.mark.parametrize("url", ["https://sqs.test/q.fifo", "https://sqs.test/q"])
@simulated
async def test_fifo_queue_is_refused_as_a_destination(url: str) -> None:
    queue = _queue(_Client({"Attributes": {"FifoQueue": "true"}}), url)
    with pytest.raises(UsageError, match=r"is a FIFO queue; name a standard queue"):
        await queue.check_destination()


@simulated
async def test_destination_whose_attributes_are_denied_keeps_the_limit_of_sqs() -> None:
    class Denied(_Client):
        async def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
            raise sqs_error("GetQueueAttributes", "AccessDenied")

    queue = _queue(Denied({}))
    assert "AccessDenied" in await queue.check_destination()
    assert queue.message_max_bytes == 1_048_576
