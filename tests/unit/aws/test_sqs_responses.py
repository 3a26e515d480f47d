"""Batches and messages of SQS are read entry by entry, and attributes of a queue."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from hashlib import md5
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from tests import private
from tests.private import find_private_text
from tests.simulation.virtual_clock import simulated
from tests.unit.aws.one_response import OneResponse, queue_of, receive
from tests.unit.fakes import ABSENT, DEAD_LETTERS, open_world, received_message
from worker.aws.sqs import Queue
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.errors import (
    AWSError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    LeaseLostError,
)

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
        {"Attributes": {"SentTimestamp": "253402300800000"}},
        {"Attributes": {"ApproximateFirstReceiveTimestamp": "-99999999999999"}},
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
async def test_malformed_message_is_left_and_the_others_are_received(
    message: Any,
) -> None:
    if message:
        message = {**_RECEIVED, **message} if isinstance(message, dict) else message
    if isinstance(message, dict):
        message = {name: value for name, value in message.items() if value is not ABSENT}
    events = Counter[str]()
    response = {"Messages": [_RECEIVED, message, {**_RECEIVED, "MessageId": "m-2"}]}
    queue = Queue(cast("Any", OneResponse(response)), "https://sqs.test/q", events=events)
    with capture_logs() as logs:
        received = await receive(queue)
    assert [each.message_id for each in received] == ["m-1", "m-2"]
    assert all(each.memory_bytes > 0 for each in received)
    assert events == {"unreadable_messages": 1}
    (line,) = logs
    assert line["outcome"] == "left"
    assert not find_private_text(str(line))


@simulated
async def test_log_identifies_a_malformed_message_only_by_a_uuid() -> None:
    named = "1ba64e23-9d2e-4b5b-8d5a-3f2f3c7b9a10"
    ids = [named, private.IP, private.SESSION_ID, None]
    response = {"Messages": [{"MessageId": each, "Body": 5} for each in ids]}
    with capture_logs() as logs:
        assert await receive(queue_of(OneResponse(response))) == []
    assert [line["message_id"] for line in logs] == [named, None, None, None]


@pytest.mark.parametrize("messages", [{"0": _RECEIVED}, "text", 5, True])
@simulated
async def test_messages_that_are_not_an_array_are_an_error(messages: Any) -> None:
    with pytest.raises(AWSUnavailableError, match=r"ReceiveMessage q: .*Messages: not an array"):
        await receive(queue_of(OneResponse({"Messages": messages})))


@simulated
async def test_more_messages_than_requested_are_all_returned() -> None:
    response = {"Messages": [{**_RECEIVED, "MessageId": f"m-{number}"} for number in range(12)]}
    assert len(await receive(queue_of(OneResponse(response)), 1)) == 12


@simulated
async def test_message_without_attributes_is_received() -> None:
    client = OneResponse({"Messages": [{"MessageId": "m", "ReceiptHandle": "h", "Body": "b"}]})
    (received,) = await receive(queue_of(client))
    epoch = datetime.fromtimestamp(0, UTC)
    assert received == ReceivedMessage("m", "h", "b")
    assert (received.sent_at, received.first_received_at) == (epoch, epoch)


@simulated
async def test_message_has_the_date_of_its_response() -> None:
    date = "Sun, 22 Nov 2026 10:00:00 GMT"
    metadata = {"HTTPHeaders": {"date": date}}
    client = OneResponse({"Messages": [_RECEIVED, _RECEIVED], "ResponseMetadata": metadata})
    assert [each.date for each in await receive(queue_of(client))] == [date, date]
    metadata_without_date: list[dict[str, Any]] = [{}, {"HTTPHeaders": {}}]
    for nothing in metadata_without_date:
        client = OneResponse({"Messages": [_RECEIVED], "ResponseMetadata": nothing})
        assert [each.date for each in await receive(queue_of(client))] == [""]


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
async def test_every_entry_of_a_batch_response_is_read(operation: str) -> None:
    queue = queue_of(OneResponse(ENTRIES))
    messages = [received_message(number) for number in range(5)]
    entries = messages if operation == "delete" else [(each, 5.0) for each in messages]
    results = await getattr(queue, operation)(entries)
    assert results[0] is None
    kinds = [type(result) for result in results[1:]]
    # The response does not name the last entry, which is not a success.
    assert kinds == [LeaseLostError, AWSUnavailableError, AWSThrottledError, AWSUnavailableError]


@pytest.mark.parametrize("operation", ["delete", "change_visibility", "send"])
@simulated
async def test_entry_in_both_lists_is_a_failure(operation: str) -> None:
    success = {"Id": "0", "MessageId": "m", "MD5OfMessageBody": md5(b"abc").hexdigest()}  # noqa: S324 - SQS's
    failure = {"Id": "0", "Code": "InternalError", "SenderFault": False}
    queue = queue_of(OneResponse({"Successful": [success], "Failed": [failure]}))
    entry = {"delete": received_message(), "change_visibility": (received_message(), 5.0)}
    (result,) = await getattr(queue, operation)([entry.get(operation, OutgoingMessage("abc"))])
    assert isinstance(result, AWSUnavailableError)


_OK_0, _OK_1 = {"Id": "0"}, {"Id": "1"}
_FAILED_1 = {"Id": "1", "Code": "ReceiptHandleIsInvalid"}
# Lists of a response and the results of entries 0 and 1; the third entry always succeeds.
MALFORMED: dict[str, tuple[Any, list[type[AWSError] | None]]] = {
    "in both lists": (([_OK_0, _OK_1], [_FAILED_1]), [None, AWSUnavailableError]),
    "succeeded twice": (([_OK_0, _OK_1, _OK_1], []), [None, AWSUnavailableError]),
    "failed twice": (([_OK_0], [_FAILED_1, _FAILED_1]), [None, AWSUnavailableError]),
    "missing": (([_OK_0], []), [None, AWSUnavailableError]),
    "unknown ids": (
        ([_OK_0, {"Id": "3"}, {"Id": "-1"}, {"Id": "01"}, {"Id": ""}, {"Id": "x"}], [_FAILED_1]),
        [None, LeaseLostError],
    ),
    "ids that are not strings": (
        ([_OK_0, {"Id": 1}, {"Id": True}, {"Id": None}, {"Id": ["1"]}, {}], []),
        [None, AWSUnavailableError],
    ),
    "entries that are not objects": (
        ([_OK_0, "1", 1, None, ["1"]], ["1", _FAILED_1]),
        [None, LeaseLostError],
    ),
    "no code": (([_OK_0], [{"Id": "1"}]), [None, AWSUnavailableError]),
    "a code that is not a string": (
        ([_OK_0], [{"Id": "1", "Code": 5}]),
        [None, AWSUnavailableError],
    ),
    "a message that is not a string": (
        ([_OK_0], [{"Id": "1", "Code": "OverLimit", "Message": {"ip": private.IP}}]),
        [None, AWSThrottledError],
    ),
}


@pytest.mark.parametrize("operation", ["delete", "change_visibility"])
@pytest.mark.parametrize("name", MALFORMED)
@simulated
async def test_entry_not_named_exactly_once_is_a_failure_of_this_entry_only(
    operation: str, name: str
) -> None:
    (successful, failed), expected = MALFORMED[name]
    response = {"Successful": [*successful, {"Id": "2"}], "Failed": failed}
    messages = [received_message(number) for number in range(3)]
    entries = messages if operation == "delete" else [(each, 5.0) for each in messages]
    results = await getattr(queue_of(OneResponse(response)), operation)(entries)
    kinds = [type(result) if result is not None else None for result in results]
    assert kinds == [*expected, None]
    assert not find_private_text(str(results))


@pytest.mark.parametrize("name", ["Successful", "Failed"])
@pytest.mark.parametrize("value", [{"0": _OK_0}, "0", 5, True])
@simulated
async def test_batch_response_without_arrays_fails_as_a_whole(name: str, value: Any) -> None:
    queue = queue_of(OneResponse({"Successful": [_OK_0], name: value}))
    with pytest.raises(AWSUnavailableError, match=f"{name}: not an array"):
        await queue.delete([received_message()])


@simulated
async def test_entry_is_sent_only_with_a_message_id_and_the_md5_of_its_body() -> None:
    good = "900150983cd24fb0d6963f7d28e17f72"  # MD5 of abc
    response = {
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
    results = await queue_of(OneResponse(response)).send([OutgoingMessage("abc")] * 7)
    assert results[0] is None
    assert [type(result) for result in results[1:]] == [
        *[AWSUnavailableError] * 3,
        AWSRejectedError,
        AWSUnavailableError,
        AWSUnavailableError,
    ]


@simulated
async def test_success_of_every_entry_without_a_body_confirms_no_message() -> None:
    queue = queue_of(OneResponse({"Successful": [_OK_0, _OK_1], "Failed": []}))
    results = await queue.send([OutgoingMessage("abc")] * 2)
    assert [type(result) for result in results] == [AWSUnavailableError] * 2
    assert await queue.delete([received_message(number) for number in range(2)]) == [None] * 2


@simulated
async def test_state_has_depth_retention_and_redrive_policy() -> None:
    world = await open_world(max_receive_count=9)
    await world.push("a", "b", "c")
    await receive(world.source, 1)
    state = await world.source.state()
    assert (state.visible, state.in_flight, state.delayed) == (2, 1, 0)
    assert (state.max_receive_count, state.fifo) == (9, False)
    assert state.redrives_to == world.sqs.queue(DEAD_LETTERS).arn
    dead_letters = await world.dead_letters.state()
    assert (dead_letters.max_receive_count, dead_letters.redrives_to) == (None, None)
    assert dead_letters.retention_seconds == 345_600


@pytest.mark.parametrize(
    ("attributes", "limit"),
    [
        ({}, 1_048_576),
        ({"MaximumMessageSize": "1024"}, 1024),
        ({"MaximumMessageSize": "2097152"}, 1_048_576),
    ],
)
@simulated
async def test_message_size_limit_is_read_with_the_other_attributes(
    attributes: dict[str, str], limit: int
) -> None:
    queue = queue_of(OneResponse({"Attributes": attributes}))
    assert queue.message_max_bytes == 1_048_576
    assert (await queue.state()).message_max_bytes == limit
    assert queue.message_max_bytes == limit
