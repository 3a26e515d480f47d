"""Whatever a server sends besides, before or instead of a response, no call gets another's."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import structlog
from botocore.exceptions import BotoCoreError, ConnectionClosedError
from structlog.testing import capture_logs

from tests import private
from tests.unit.fakes import received_message
from tests.wire.pair import DYNAMODB, QUEUE, REQUESTS, Pair, opened_client, outcome_of, paired
from tests.wire.recorder import Early, Pieces, Recorder, Step, Trouble, Truncated, answer
from worker.aws import connection
from worker.aws.calls import calling
from worker.aws.fast_path.caller import Caller
from worker.aws.responses import NoResponseError
from worker.aws.sqs import Queue
from worker.domain.message import OutgoingMessage
from worker.errors import AWSError, AWSUnavailableError

WAYS = ["stock", "signed"]
DELETE = REQUESTS["DeleteMessageBatch"][0]


def _body(name: str) -> bytes:
    return json.dumps({"Successful": [{"Id": name}]}).encode()


def _said(name: str) -> bytes:
    return answer(_body(name))


ANOTHERS = _said("another's")


async def _names(pair: Pair, way: str, *steps: Step) -> list[str | None]:
    """Call once for each step and give the name in each response; None for an error."""
    names: list[str | None] = []
    caller: Caller = getattr(pair, way)
    pair.recorder.play(*steps, Trouble.CLOSED)
    for _ in steps:
        try:
            names.append((await caller.call("DeleteMessageBatch", DELETE))["Successful"][0]["Id"])
        except BotoCoreError:
            names.append(None)
    return names


@pytest.fixture
def one_connection() -> dict[str, Any]:
    return {"max_pool_connections": 1, "attempts": 1}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("read", [False, True], ids=["not read yet", "read"])
@pytest.mark.parametrize(
    "unasked",
    [
        ANOTHERS,
        ANOTHERS[:30],
        ANOTHERS + ANOTHERS,
        b"\r\n",
        b"\0",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["response", "part of one", "two", "blank line", "garbage", "informational"],
)
async def test_bytes_on_an_idle_connection_close_it_and_reach_no_call(
    recorder: Recorder, one_connection: dict[str, Any], way: str, read: bool, unasked: bytes
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **one_connection) as pair:
        assert await _names(pair, way, _said("a")) == ["a"]
        recorder.send_unasked(unasked)
        if read:
            await recorder.all_closed()
        assert await _names(pair, way, _said("b"), _said("c"), _said("d")) == ["b", "c", "d"]
    assert recorder.connections == 2


SURPLUS: dict[str, Step] = {
    "another response": _said("a") + ANOTHERS,
    "the same response again": _said("a") * 2,
    "part of another": _said("a") + ANOTHERS[:20],
    "garbage": _said("a") + b"\0\1\2",
    "a longer body than stated": answer(_body("a")) + b"}",
    "another after the head": Pieces((_said("a")[:-5], _said("a")[-5:] + ANOTHERS)),
    "another head inside the body": answer(_body("a")[:10]) + ANOTHERS + _body("a")[10:],
    "another after an empty one": answer(b"", 204) + ANOTHERS,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", SURPLUS)
async def test_bytes_after_a_response_make_the_call_unknown_and_close_the_connection(
    recorder: Recorder, one_connection: dict[str, Any], way: str, name: str
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **one_connection) as pair:
        names = await _names(pair, way, SURPLUS[name], _said("b"), _said("c"))
    assert names == [None, "b", "c"]
    assert recorder.connections == 2


async def test_an_empty_response_with_another_after_it_is_unknown(
    recorder: Recorder, one_connection: dict[str, Any]
) -> None:
    step = answer(b"") + ANOTHERS
    async with paired(recorder, "ReceiveMessage", **one_connection) as pair:
        outcome = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, step)
    assert type(outcome.error) is ConnectionClosedError


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "pieces",
    [
        (_said("a"), ANOTHERS),
        (_said("a"), ANOTHERS[:20], ANOTHERS[20:]),
        (_said("a") + ANOTHERS[:20], ANOTHERS[20:]),
        (_said("a")[:-1], _said("a")[-1:], ANOTHERS),
    ],
)
async def test_another_response_in_packets_of_its_own_reaches_no_call(
    recorder: Recorder, one_connection: dict[str, Any], way: str, pieces: tuple[bytes, ...]
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **one_connection) as pair:
        names = await _names(pair, way, Pieces(pieces), _said("b"), _said("c"), _said("d"))
    assert names[0] in {"a", None}
    # The surplus may still be on its way when the next request is written; then it is refused.
    assert set(names[1:]) <= {"b", "c", "d", None}
    assert names[2:] == ["c", "d"]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("way", WAYS)
async def test_a_success_before_the_request_was_sent_is_not_believed(
    recorder: Recorder, one_connection: dict[str, Any], way: str
) -> None:
    large = {**QUEUE, "Entries": [{"Id": "0", "MessageBody": "x" * 16_000_000}]}
    async with paired(recorder, "SendMessageBatch", **one_connection) as pair:
        caller = getattr(pair, way)
        early = Early(_said("early"))
        outcome = await outcome_of(recorder, caller, "SendMessageBatch", large, early)
        assert type(outcome.error) is ConnectionClosedError
        assert await _names(pair, way, _said("b"), _said("c")) == ["b", "c"]


async def test_an_error_before_the_request_was_sent_is_believed_and_closes_the_connection(
    recorder: Recorder, one_connection: dict[str, Any]
) -> None:
    large = {**QUEUE, "Entries": [{"Id": "0", "MessageBody": "x" * 16_000_000}]}
    refusal = Early(answer(b'{"__type": "a#RequestTooLong", "message": "m"}', 413))
    async with paired(recorder, "SendMessageBatch", **one_connection) as pair:
        outcome = await outcome_of(recorder, pair.signed, "SendMessageBatch", large, refusal)
        assert "RequestTooLong" in str(outcome.error)
        assert await _names(pair, "signed", _said("b")) == ["b"]
    assert recorder.connections == 2


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stated", [True, False])
async def test_an_oversized_response_is_refused_at_the_limit(
    recorder: Recorder,
    one_connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    stated: bool,
) -> None:
    monkeypatch.setattr(connection, "RESPONSE_MAX_BYTES", 300_000)
    length = b"Content-Length: 1000000000000" if stated else b"Transfer-Encoding: chunked"
    head = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n"
    block = b"x" * 1000 if stated else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    async with paired(recorder, "DeleteMessageBatch", **one_connection) as pair:
        step = Pieces((head + block, *[block] * 400), endless=True)
        outcome = await outcome_of(recorder, getattr(pair, way), "DeleteMessageBatch", DELETE, step)
        assert type(outcome.error) is ConnectionClosedError
        await recorder.all_closed()
        assert await _names(pair, way, _said("b")) == ["b"]


async def test_the_largest_batch_of_messages_that_there_can_be_is_received(
    recorder: Recorder,
) -> None:
    body = "<" * 1_048_576
    written = json.dumps({"MessageId": "m", "ReceiptHandle": "h" * 1000, "Body": "-"})
    written = written.replace('"-"', '"' + "\\u003c" * len(body) + '"')
    said = f'{{"Messages": [{", ".join([written] * 10)}]}}'.encode()
    assert 60_000_000 < len(said) < connection.RESPONSE_MAX_BYTES
    async with paired(recorder, "ReceiveMessage", read_timeout=30) as pair:
        outcome = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, answer(said))
    assert outcome.answer is not None
    assert [len(each["Body"]) for each in outcome.answer["Messages"]] == [len(body)] * 10


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_response_ends_at_the_deadline_of_the_call(
    recorder: Recorder, one_connection: dict[str, Any], way: str
) -> None:
    recorder.play(Pieces(tuple(bytes([each]) for each in _said("a")), pause_seconds=0.02))
    async with paired(recorder, "DeleteMessageBatch", **one_connection) as pair:
        queue = _queue(pair, way)
        with pytest.raises(AWSUnavailableError, match="no response within"):
            await queue.delete([received_message()])


def _queue(pair: Pair, way: str) -> Queue:
    caller = getattr(pair, way)
    client: Any = None
    url = QUEUE["QueueUrl"]
    return Queue(client, url, caller=caller, poll_caller=caller, call_timeout_seconds=0.5)


@pytest.mark.parametrize("operation", list(REQUESTS))
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "said",
    [
        answer(b'{"status": "ok"}'),
        answer(b'{"__type": "a#InternalFailure", "message": "m"}'),
        answer(b"{}", 202),
        answer(b"{}", 201),
        answer(b"", 204),
        answer(b"", 205),
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["another object", "error", "accepted", "created", "empty", "reset", "upgraded"],
)
async def test_no_other_success_than_the_operations_own_is_believed(
    recorder: Recorder, operation: str, way: str, said: bytes
) -> None:
    async with paired(recorder, operation, attempts=1) as pair:
        request = REQUESTS[operation][0]
        outcome = await outcome_of(recorder, getattr(pair, way), operation, request, said)
    assert outcome.answer is None
    assert isinstance(outcome.error, BotoCoreError)


# Where an empty body is as good as an empty object, and where the SDK would lose something by it:
# a write that never happened would have succeeded, a policy would be absent.
EMPTY_IS_BELIEVED = {"ReceiveMessage"}


@pytest.mark.parametrize("operation", list(REQUESTS))
async def test_an_empty_body_is_believed_where_nothing_can_be_lost_by_it(
    recorder: Recorder, operation: str
) -> None:
    async with paired(recorder, operation) as pair:
        outcomes = await pair.call(operation, REQUESTS[operation][0], answer(b""))
    for outcome in outcomes:
        if operation in EMPTY_IS_BELIEVED:
            assert outcome.answer is not None
            assert "Messages" not in outcome.answer
        else:
            assert type(outcome.error) is NoResponseError


KEY: dict[str, Any] = {"TableName": "t", "Key": {"a": "b"}}
SDK_ONLY: list[tuple[str, str, dict[str, Any], bool]] = [
    ("sqs", "get_queue_url", {"QueueName": "q"}, False),
    ("sqs", "get_queue_attributes", QUEUE, False),
    ("sqs", "delete_message", {**QUEUE, "ReceiptHandle": "h"}, True),
    ("sqs", "set_queue_attributes", {**QUEUE, "Attributes": {}}, True),
    ("dynamodb", "get_item", KEY, False),
    ("dynamodb", "update_item", KEY, False),
    ("dynamodb", "query", {"TableName": "t", "KeyConditionExpression": "a = b"}, False),
    ("dynamodb", "scan", {"TableName": "t"}, False),
    ("dynamodb", "describe_table", {"TableName": "t"}, False),
]


@pytest.mark.parametrize(("service", "operation", "request_", "believed"), SDK_ONLY)
async def test_what_only_the_sdk_calls_believes_an_empty_body_where_none_is_specified(
    recorder: Recorder, service: str, operation: str, request_: dict[str, Any], believed: bool
) -> None:
    recorder.play(answer(b""))
    async with opened_client(service, recorder.url) as client:
        call = getattr(client, operation)
        if believed:
            await call(**request_)
        else:
            with pytest.raises(NoResponseError):
                await call(**request_)


GOOD = {"MessageId": "m", "ReceiptHandle": "h", "Body": "{}"}
MALFORMED: list[Any] = [
    "text", 5, None, [], {}, {**GOOD, "Body": 5}, {**GOOD, "Attributes": private.IP},
    {**GOOD, "Attributes": {"SentTimestamp": private.SESSION_ID}},
    {**GOOD, "MessageAttributes": [1]}, {**GOOD, "MessageAttributes": {"a": private.IP}},
    {**GOOD, "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": "a"}}},
    {**GOOD, "MessageAttributes": {"a": {"DataType": "Binary", "BinaryValue": 5}}},
    {**GOOD, "MD5OfBody": private.SESSION_ID},
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("malformed", MALFORMED)
async def test_a_malformed_message_does_not_strand_the_others(
    recorder: Recorder, way: str, malformed: Any
) -> None:
    messages = [GOOD] * 4 + [malformed] + [{**GOOD, "MessageId": "n"}] * 5
    recorder.play(answer(json.dumps({"Messages": messages}).encode()))
    async with paired(recorder, "ReceiveMessage") as pair:
        taken = await _queue(pair, way).receive(10, wait_seconds=0, visibility_timeout_seconds=30)
    assert [each.message_id for each in taken] == ["m"] * 4 + ["n"] * 5


MARKERS = json.dumps(private.PRIVATE)


def _broken() -> Iterator[Step]:
    """Give responses that are broken in every way, and quote what no log may hold."""
    marked = MARKERS.encode()
    for status in (200, 202, 400, 403, 500, 503):
        for body in (marked, marked[:-1], b"[" + marked + b"]", b"<p>" + marked, marked + b"\xff"):
            yield answer(body, status)
    for name in ("Messages", "Successful", "Failed", "Responses", "Item", "Attributes"):
        for value in (private.PRIVATE, MARKERS, [MARKERS], [private.PRIVATE], {"0": MARKERS}):
            yield answer(json.dumps({name: value}).encode())
    named = {"Id": "0", "Code": private.SESSION_ID, "Message": MARKERS}
    yield answer(json.dumps({"Failed": [named]}).encode())
    yield answer(json.dumps({"Responses": [{"Error": named}]}).encode())
    for kind in (
        "ValidationException",
        "InvalidParameterValue",
        "InternalFailure",
        "Weird",
        MARKERS,
    ):
        error = {"__type": f"com.amazonaws.x#{kind}", "message": f"1 error: Value {MARKERS!r} at x"}
        yield answer(json.dumps(error).encode(), 400)
    broken = {**GOOD, "Attributes": {"SentTimestamp": MARKERS}, "MessageId": private.SESSION_ID}
    yield answer(json.dumps({"Messages": [broken]}).encode())
    yield answer(b"{}", headers={"x-amz-crc32": private.SESSION_ID})
    yield answer(b"{}", headers={"Content-Encoding": private.IP})
    yield answer(b"{}") + marked
    yield Truncated(b"HTTP/1.1 200 " + marked + b"\r\nX: " + marked)
    yield Truncated(marked + b"\r\n\r\n")
    yield Truncated(b"HTTP/1.1 200 OK\r\nContent-Length: " + marked + b"\r\n\r\n")
    yield Truncated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + marked)
    yield Truncated(answer(marked)[:-3])


def _calls(queue: Queue) -> list[Callable[[], Any]]:
    return [
        lambda: queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30),
        lambda: queue.delete([received_message()]),
        lambda: queue.change_visibility([(received_message(), 5.0)]),
        lambda: queue.send([OutgoingMessage("b")]),
    ]


@pytest.mark.parametrize("way", WAYS)
async def test_no_log_quotes_a_broken_response(recorder: Recorder, way: str) -> None:
    # The watch over all logs of tests says whether it does.
    log = structlog.get_logger()
    async with (
        paired(recorder, "ReceiveMessage", attempts=1) as sqs,
        paired(recorder, "PutItem", attempts=1) as dynamodb,
    ):
        queue, table = _queue(sqs, way), getattr(dynamodb, way)

        async def write(operation: str) -> None:
            async with calling(operation, 5, target="t"):
                await table.call(operation, REQUESTS[operation][-1])

        calls = _calls(queue)
        calls += [partial(write, each) for each in DYNAMODB]
        for step in _broken():
            for call in calls:
                recorder.play(step)
                with capture_logs():
                    try:
                        log.warning("result", result=str(await call()))
                    except AWSError as error:
                        log.exception("AWS call failed", error=str(error))


@pytest.mark.parametrize("way", WAYS)
async def test_every_broken_response_is_an_error_or_nothing(recorder: Recorder, way: str) -> None:
    async with paired(recorder, "ReceiveMessage", attempts=1) as pair:
        for step in _broken():
            for call in _calls(_queue(pair, way)):
                recorder.play(step)
                results: list[Any] = []
                with suppress(AWSError):
                    results = await call()
                assert all(isinstance(each, AWSError) for each in results)
