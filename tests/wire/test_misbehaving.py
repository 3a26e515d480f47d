"""Calls to a misbehaving server: no call gets the response to another one."""

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
from tests.wire.recorder import Early, Failure, Pieces, Recorder, Step, Truncated, http_response
from worker.aws import connection
from worker.aws.calls import calling
from worker.aws.fast_path.caller import Caller
from worker.aws.responses import NoResponseError
from worker.aws.sqs import Queue
from worker.domain.message import OutgoingMessage
from worker.errors import AWSError, AWSUnavailableError

CALLERS = ["sdk", "signed"]
DELETE = REQUESTS["DeleteMessageBatch"][0]


def _body(name: str) -> bytes:
    return json.dumps({"Successful": [{"Id": name}]}).encode()


def _success(name: str) -> bytes:
    return http_response(_body(name))


OTHER_RESPONSE = _success("another's")


async def _response_ids(pair: Pair, kind: str, *steps: Step) -> list[str | None]:
    """Call once for each step and return the id in each response; None for an error."""
    names: list[str | None] = []
    caller: Caller = getattr(pair, kind)
    pair.recorder.play(*steps, Failure.CLOSED)
    for _ in steps:
        try:
            names.append((await caller.call("DeleteMessageBatch", DELETE))["Successful"][0]["Id"])
        except BotoCoreError:
            names.append(None)
    return names


@pytest.fixture
def single_connection() -> dict[str, Any]:
    return {"max_pool_connections": 1, "attempts": 1}


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("read", [False, True], ids=["not read yet", "read"])
@pytest.mark.parametrize(
    "unsolicited",
    [
        OTHER_RESPONSE,
        OTHER_RESPONSE[:30],
        OTHER_RESPONSE + OTHER_RESPONSE,
        b"\r\n",
        b"\0",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
    ids=["response", "part of one", "two", "blank line", "garbage", "informational"],
)
async def test_bytes_on_an_idle_connection_close_it_and_reach_no_call(
    recorder: Recorder, single_connection: dict[str, Any], kind: str, read: bool, unsolicited: bytes
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **single_connection) as pair:
        assert await _response_ids(pair, kind, _success("a")) == ["a"]
        recorder.send_unsolicited(unsolicited)
        if read:
            await recorder.all_closed()
        assert await _response_ids(pair, kind, _success("b"), _success("c"), _success("d")) == [
            "b",
            "c",
            "d",
        ]
    assert recorder.connections == 2


SURPLUS: dict[str, Step] = {
    "another response": _success("a") + OTHER_RESPONSE,
    "the same response again": _success("a") * 2,
    "an error": _success("a") + http_response(_body("error"), 500),
    "part of another": _success("a") + OTHER_RESPONSE[:20],
    "garbage": _success("a") + b"\0\1\2",
    "a longer body than stated": http_response(_body("a")) + b"}",
    "another after the head": Pieces((_success("a")[:-5], _success("a")[-5:] + OTHER_RESPONSE)),
    "another head inside the body": http_response(_body("a")[:10])
    + OTHER_RESPONSE
    + _body("a")[10:],
    "another after an empty one": http_response(b"", 204) + OTHER_RESPONSE,
}


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("name", SURPLUS)
async def test_bytes_after_a_response_fail_the_call_and_close_the_connection(
    recorder: Recorder, single_connection: dict[str, Any], kind: str, name: str
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **single_connection) as pair:
        names = await _response_ids(pair, kind, SURPLUS[name], _success("b"), _success("c"))
    assert names == [None, "b", "c"]
    assert recorder.connections == 2


async def test_empty_response_followed_by_another_fails_the_call(
    recorder: Recorder, single_connection: dict[str, Any]
) -> None:
    step = http_response(b"") + OTHER_RESPONSE
    async with paired(recorder, "ReceiveMessage", **single_connection) as pair:
        outcome = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, step)
    assert type(outcome.error) is ConnectionClosedError


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(
    "pieces",
    [
        (_success("a"), OTHER_RESPONSE),
        (_success("a"), OTHER_RESPONSE[:20], OTHER_RESPONSE[20:]),
        (_success("a") + OTHER_RESPONSE[:20], OTHER_RESPONSE[20:]),
        (_success("a")[:-1], _success("a")[-1:], OTHER_RESPONSE),
    ],
)
async def test_another_response_in_separate_packets_reaches_no_call(
    recorder: Recorder, single_connection: dict[str, Any], kind: str, pieces: tuple[bytes, ...]
) -> None:
    async with paired(recorder, "DeleteMessageBatch", **single_connection) as pair:
        names = await _response_ids(
            pair, kind, Pieces(pieces), _success("b"), _success("c"), _success("d")
        )
    assert names[0] in {"a", None}
    # The surplus may arrive after the next request is written; that call then fails.
    assert set(names[1:]) <= {"b", "c", "d", None}
    assert names[2:] == ["c", "d"]


@pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")
@pytest.mark.parametrize("kind", CALLERS)
async def test_success_before_the_request_was_sent_is_rejected(
    recorder: Recorder, single_connection: dict[str, Any], kind: str
) -> None:
    large = {**QUEUE, "Entries": [{"Id": "0", "MessageBody": "x" * 16_000_000}]}
    async with paired(recorder, "SendMessageBatch", **single_connection) as pair:
        caller = getattr(pair, kind)
        early = Early(_success("early"))
        outcome = await outcome_of(recorder, caller, "SendMessageBatch", large, early)
        assert type(outcome.error) is ConnectionClosedError
        assert await _response_ids(pair, kind, _success("b"), _success("c")) == ["b", "c"]


async def test_error_before_the_request_was_sent_is_raised_and_closes_the_connection(
    recorder: Recorder, single_connection: dict[str, Any]
) -> None:
    large = {**QUEUE, "Entries": [{"Id": "0", "MessageBody": "x" * 16_000_000}]}
    refusal = Early(http_response(b'{"__type": "a#RequestTooLong", "message": "m"}', 413))
    async with paired(recorder, "SendMessageBatch", **single_connection) as pair:
        outcome = await outcome_of(recorder, pair.signed, "SendMessageBatch", large, refusal)
        assert "RequestTooLong" in str(outcome.error)
        assert await _response_ids(pair, "signed", _success("b")) == ["b"]
    assert recorder.connections == 2


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("stated", [True, False])
async def test_oversized_response_is_refused_at_the_limit(
    recorder: Recorder,
    single_connection: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    stated: bool,
) -> None:
    monkeypatch.setattr(connection, "RESPONSE_MAX_BYTES", 300_000)
    length = b"Content-Length: 1000000000000" if stated else b"Transfer-Encoding: chunked"
    head = b"HTTP/1.1 200 OK\r\n" + length + b"\r\n\r\n"
    block = b"x" * 1000 if stated else b"3e8\r\n" + b"x" * 1000 + b"\r\n"
    async with paired(recorder, "DeleteMessageBatch", **single_connection) as pair:
        step = Pieces((head + block, *[block] * 400), endless=True)
        outcome = await outcome_of(
            recorder, getattr(pair, kind), "DeleteMessageBatch", DELETE, step
        )
        assert type(outcome.error) is ConnectionClosedError
        await recorder.all_closed()
        assert await _response_ids(pair, kind, _success("b")) == ["b"]


async def test_largest_batch_of_messages_is_received(
    recorder: Recorder,
) -> None:
    body = "<" * 1_048_576
    written = json.dumps({"MessageId": "m", "ReceiptHandle": "h" * 1000, "Body": "-"})
    written = written.replace('"-"', '"' + "\\u003c" * len(body) + '"')
    content = f'{{"Messages": [{", ".join([written] * 10)}]}}'.encode()
    assert 60_000_000 < len(content) < connection.RESPONSE_MAX_BYTES
    async with paired(recorder, "ReceiveMessage", read_timeout=30) as pair:
        outcome = await outcome_of(
            recorder, pair.signed, "ReceiveMessage", QUEUE, http_response(content)
        )
    assert outcome.response is not None
    assert [len(each["Body"]) for each in outcome.response["Messages"]] == [len(body)] * 10


@pytest.mark.parametrize("kind", CALLERS)
async def test_slow_response_ends_at_the_deadline_of_the_call(
    recorder: Recorder, single_connection: dict[str, Any], kind: str
) -> None:
    recorder.play(Pieces(tuple(bytes([each]) for each in _success("a")), pause_seconds=0.02))
    async with paired(recorder, "DeleteMessageBatch", **single_connection) as pair:
        queue = _queue(pair, kind)
        with pytest.raises(AWSUnavailableError, match="no response within"):
            await queue.delete([received_message()])


def _queue(pair: Pair, kind: str) -> Queue:
    caller = getattr(pair, kind)
    client: Any = None
    url = QUEUE["QueueUrl"]
    return Queue(client, url, caller=caller, poll_caller=caller, call_timeout_seconds=0.5)


@pytest.mark.parametrize("operation", list(REQUESTS))
@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize(
    "content",
    [
        http_response(b'{"status": "ok"}'),
        http_response(b'{"status": null}'),
        http_response(b'{"__type": "a#InternalFailure", "message": "m"}'),
        http_response(b"{}", 202),
        http_response(b"{}", 201),
        http_response(b"", 204),
        http_response(b"", 205),
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
    ids=["another object", "null", "error", "accepted", "created", "empty", "reset", "upgraded"],
)
async def test_no_other_success_than_that_of_the_operation_is_accepted(
    recorder: Recorder, operation: str, kind: str, content: bytes
) -> None:
    async with paired(recorder, operation, attempts=1) as pair:
        request = REQUESTS[operation][0]
        outcome = await outcome_of(recorder, getattr(pair, kind), operation, request, content)
    assert outcome.response is None
    assert isinstance(outcome.error, BotoCoreError)


# Elsewhere the SDK would take an empty body for a success: of a write that never happened, or of a
# lookup of a policy that seems absent.
EMPTY_IS_ACCEPTED = {"ReceiveMessage"}


@pytest.mark.parametrize("operation", list(REQUESTS))
async def test_empty_body_is_accepted_only_where_nothing_is_lost(
    recorder: Recorder, operation: str
) -> None:
    async with paired(recorder, operation) as pair:
        outcomes = await pair.call(operation, REQUESTS[operation][0], http_response(b""))
    for outcome in outcomes:
        if operation in EMPTY_IS_ACCEPTED:
            assert outcome.response is not None
            assert "Messages" not in outcome.response
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


@pytest.mark.parametrize(("service", "operation", "request_", "accepted"), SDK_ONLY)
async def test_empty_body_is_accepted_for_sdk_operations_without_output(
    recorder: Recorder, service: str, operation: str, request_: dict[str, Any], accepted: bool
) -> None:
    recorder.play(http_response(b""))
    async with opened_client(service, recorder.url) as client:
        call = getattr(client, operation)
        if accepted:
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


@pytest.mark.parametrize("kind", CALLERS)
@pytest.mark.parametrize("malformed", MALFORMED)
async def test_malformed_message_does_not_strand_the_others(
    recorder: Recorder, kind: str, malformed: Any
) -> None:
    messages = [GOOD] * 4 + [malformed] + [{**GOOD, "MessageId": "n"}] * 5
    recorder.play(http_response(json.dumps({"Messages": messages}).encode()))
    async with paired(recorder, "ReceiveMessage") as pair:
        received = await _queue(pair, kind).receive(
            10, wait_seconds=0, visibility_timeout_seconds=30
        )
    assert [each.message_id for each in received] == ["m"] * 4 + ["n"] * 5


MARKERS = json.dumps(private.PRIVATE)


def _malformed_responses() -> Iterator[Step]:
    """Yield malformed responses that contain private data."""
    marked = MARKERS.encode()
    for status in (200, 202, 400, 403, 500, 503):
        for body in (marked, marked[:-1], b"[" + marked + b"]", b"<p>" + marked, marked + b"\xff"):
            yield http_response(body, status)
    for name in ("Messages", "Successful", "Failed", "Responses", "Item", "Attributes"):
        for value in (private.PRIVATE, MARKERS, [MARKERS], [private.PRIVATE], {"0": MARKERS}):
            yield http_response(json.dumps({name: value}).encode())
    named = {"Id": "0", "Code": private.SESSION_ID, "Message": MARKERS}
    yield http_response(json.dumps({"Failed": [named]}).encode())
    yield http_response(json.dumps({"Responses": [{"Error": named}]}).encode())
    for kind in (
        "ValidationException",
        "InvalidParameterValue",
        "InternalFailure",
        "Weird",
        MARKERS,
    ):
        error = {"__type": f"com.amazonaws.x#{kind}", "message": f"1 error: Value {MARKERS!r} at x"}
        yield http_response(json.dumps(error).encode(), 400)
    broken = {**GOOD, "Attributes": {"SentTimestamp": MARKERS}, "MessageId": private.SESSION_ID}
    yield http_response(json.dumps({"Messages": [broken]}).encode())
    yield http_response(b"{}", headers={"x-amz-crc32": private.SESSION_ID})
    yield http_response(b"{}", headers={"Content-Encoding": private.IP})
    yield http_response(b"{}") + marked
    yield Truncated(b"HTTP/1.1 200 " + marked + b"\r\nX: " + marked)
    yield Truncated(marked + b"\r\n\r\n")
    yield Truncated(b"HTTP/1.1 200 OK\r\nContent-Length: " + marked + b"\r\n\r\n")
    yield Truncated(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + marked)
    yield Truncated(http_response(marked)[:-3])


def _calls(queue: Queue) -> list[Callable[[], Any]]:
    return [
        lambda: queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30),
        lambda: queue.delete([received_message()]),
        lambda: queue.change_visibility([(received_message(), 5.0)]),
        lambda: queue.send([OutgoingMessage("b")]),
    ]


@pytest.mark.parametrize("kind", CALLERS)
async def test_no_log_quotes_a_malformed_response(recorder: Recorder, kind: str) -> None:
    # The fixture that checks all logs of a test for private data detects a quotation.
    log = structlog.get_logger()
    async with (
        paired(recorder, "ReceiveMessage", attempts=1) as sqs,
        paired(recorder, "PutItem", attempts=1) as dynamodb,
    ):
        queue, table = _queue(sqs, kind), getattr(dynamodb, kind)

        async def write(operation: str) -> None:
            async with calling(operation, 5, target="t"):
                await table.call(operation, REQUESTS[operation][-1])

        calls = _calls(queue)
        calls += [partial(write, each) for each in DYNAMODB]
        for step in _malformed_responses():
            for call in calls:
                recorder.play(step)
                with capture_logs():
                    try:
                        log.warning("result", result=str(await call()))
                    except AWSError as error:
                        log.exception("AWS call failed", error=str(error))


@pytest.mark.parametrize("kind", CALLERS)
async def test_every_malformed_response_is_an_error_or_empty(recorder: Recorder, kind: str) -> None:
    async with paired(recorder, "ReceiveMessage", attempts=1) as pair:
        for step in _malformed_responses():
            for call in _calls(_queue(pair, kind)):
                recorder.play(step)
                results: list[Any] = []
                with suppress(AWSError):
                    results = await call()
                assert all(isinstance(each, AWSError) for each in results)
