"""The SDK and the signed fast path read responses and failures in the same way."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import json
import socket
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import (
    ChecksumError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
)
from structlog.testing import capture_logs

from tests.wire.pair import QUEUE, REQUESTS, SQS, Outcome, outcome_of, paired
from tests.wire.recorder import Failure, Recorder, Step, Truncated, http_response
from worker.aws.fast_path.caller import SignedCaller
from worker.aws.responses import NoResponseError
from worker.aws.sqs import Queue

BINARY = bytes(range(256))


def _md5(body: str) -> str:
    return hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def _message(body: str, **changes: Any) -> dict[str, Any]:
    return {
        "MessageId": "id",
        "ReceiptHandle": "handle",
        "MD5OfBody": _md5(body),
        "Body": body,
        **changes,
    }


ATTRIBUTES = {
    "s": {"DataType": "String", "StringValue": "café"},
    "n": {"DataType": "Number", "StringValue": "1"},
    "b": {"DataType": "Binary", "BinaryValue": base64.b64encode(BINARY).decode()},
    "c": {"DataType": "Binary.png", "BinaryValue": ""},
    "d": {"DataType": "String.custom", "StringValue": "", "BinaryValue": None},
}
FULL = _message(
    '{"a": null, "b": "é"}',
    Attributes={"SentTimestamp": "1", "ApproximateReceiveCount": "1"},
    MD5OfMessageAttributes="m",
    MessageAttributes=ATTRIBUTES,
)
GOOD: list[tuple[str, Any]] = [
    ("ReceiveMessage", {}),
    ("ReceiveMessage", {"Messages": None}),
    ("ReceiveMessage", {"Messages": []}),
    ("ReceiveMessage", {"Messages": [FULL, _message(""), _message("😀 café")]}),
    ("ReceiveMessage", {"Messages": [_message("x", Attributes=None, MessageAttributes=None)]}),
    ("ReceiveMessage", {"Messages": [_message("\ud800 half a pair")]}),
    ("ReceiveMessage", {"Messages": [_message("y" * 300_000)]}),
    ("DeleteMessageBatch", {"Successful": [{"Id": "0"}], "Failed": []}),
    ("DeleteMessageBatch", {"Successful": None, "Failed": [
        {"Id": "1", "Code": "ReceiptHandleIsInvalid", "Message": "m", "SenderFault": True}]}),
    ("ChangeMessageVisibilityBatch", {"Successful": [{"Id": "0"}, {"Id": "1"}]}),
    ("SendMessageBatch", {"Successful": [
        {"Id": "0", "MessageId": "i", "MD5OfMessageBody": "m", "SequenceNumber": "1"}]}),
    ("BatchExecuteStatement", {"Responses": [
        {"TableName": "t"}, {"Error": {"Code": "DuplicateItem", "Message": "m"}}]}),
    ("PutItem", {}),
]  # fmt: skip


def _assert_equal(sdk: Outcome, signed: Outcome) -> None:
    """Assert the same response or error after the same requests; retries may have another id."""
    assert signed.response == sdk.response
    assert len(signed.requests) == len(sdk.requests)
    assert _json(signed) == _json(sdk)
    assert [each.headers["amz-sdk-request"] for each in signed.requests] == [
        each.headers["amz-sdk-request"] for each in sdk.requests
    ]
    assert type(signed.error) is type(sdk.error) or _both_modelled(sdk, signed)
    if type(sdk.error) is not HTTPClientError:  # which quotes aiohttp
        assert str(signed.error) == str(sdk.error)
    if sdk.error is not None:
        assert vars(signed.error).keys() == vars(sdk.error).keys()
        assert getattr(signed.error, "response", None) == getattr(sdk.error, "response", None)


def _json(outcome: Outcome) -> list[Any]:
    return [json.loads(each.body) for each in outcome.requests]


def _both_modelled(sdk: Outcome, signed: Outcome) -> bool:
    # Each client creates its own exception classes from the service model.
    names = [[each.__qualname__ for each in type(e.error).__mro__] for e in (sdk, signed)]
    return names[0] == names[1] and "ClientError" in names[0]


@pytest.mark.parametrize(("operation", "content"), GOOD)
async def test_both_callers_read_a_success_alike(
    recorder: Recorder, operation: str, content: Any
) -> None:
    async with paired(recorder, operation) as pair:
        body = json.dumps(content).encode()
        sdk, signed = await pair.call(operation, REQUESTS[operation][0], http_response(body))
    assert sdk.response is not None
    _assert_equal(sdk, signed)


async def test_binary_attributes_are_bytes(recorder: Recorder) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        body = json.dumps({"Messages": [FULL]}).encode()
        _, signed = await pair.call("ReceiveMessage", QUEUE, http_response(body))
    assert signed.response is not None
    assert signed.response["Messages"][0]["MessageAttributes"]["b"]["BinaryValue"] == BINARY


def _error_response(code: str, status: int = 400, query: str = "", **headers: str) -> bytes:
    body = json.dumps({"__type": f"com.amazonaws.x#{code}", "message": "Message of AWS."}).encode()
    if query:
        headers["x-amzn-query-error"] = query
    return http_response(body, status, headers)


FAILED: dict[str, bytes] = {
    "modelled": _error_response("QueueDoesNotExist", query="AWS.SQS.NonExistentQueue;Sender"),
    "modelled by its name alone": _error_response("ReceiptHandleIsInvalid"),
    "query error without a type": _error_response("OverLimit", query="OverLimit"),
    "conditional": _error_response("ConditionalCheckFailedException"),
    "not found": _error_response("ResourceNotFoundException"),
    "access denied": _error_response("AccessDeniedException"),
    "forbidden": _error_response("InvalidSecurity", 403),
    "signature": _error_response("InvalidSignatureException"),
    "throttled": _error_response("ThrottlingException"),
    "throttled by sqs": _error_response("RequestThrottled", 403, "RequestThrottled;Sender"),
    "throughput": _error_response("ProvisionedThroughputExceededException"),
    "unheard of": _error_response("Weird", 418),
    "internal": _error_response("InternalServerError", 500),
    "unavailable": _error_response("ServiceUnavailable", 503),
    "capital Message": http_response(b'{"__type": "A:B#C", "Message": "M"}', 400),
    "page 503": http_response(b"<html><b>Http/1.1 Service Unavailable</b></html>", 503),
    "page 400": http_response(b"<html>no</html>", 400),
    "list 400": http_response(b"[1]", 400),
    "bytes 400": http_response(b"\xff\xfe", 400),
    "empty 400": http_response(b"", 400),
    "empty 500": http_response(b"", 500),
    "not modified": http_response(b"", 304),
    "multiple choices": http_response(b"{}", 300),
}  # fmt: skip


@pytest.mark.parametrize("operation", ["DeleteMessageBatch", "BatchExecuteStatement", "PutItem"])
@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("name", FAILED)
async def test_both_callers_raise_the_same_for_an_error_response(
    recorder: Recorder, operation: str, attempts: int, name: str
) -> None:
    async with paired(recorder, operation, attempts=attempts) as pair:
        sdk, signed = await pair.call(operation, REQUESTS[operation][0], FAILED[name])
    assert sdk.error is not None
    _assert_equal(sdk, signed)


SUCCESS = http_response(b'{"Successful": [{"Id": "0"}, {"Id": "1"}]}')
FAILURES: dict[str, Step] = {
    "closed": Failure.CLOSED,
    "reset": Failure.RESET,
    "stalled": Failure.STALLED,
    "truncated in the head": Truncated(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "truncated in the body": Truncated(SUCCESS[:-5]),
    "no HTTP": Truncated(b"220 mail.example.com ESMTP\r\n\r\n"),
    "no head that can be read": Truncated(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
}


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("name", FAILURES)
async def test_both_callers_raise_the_same_for_a_broken_connection(
    recorder: Recorder, attempts: int, name: str
) -> None:
    async with paired(recorder, "DeleteMessageBatch", attempts=attempts, read_timeout=0.2) as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        sdk, signed = await pair.call("DeleteMessageBatch", request, FAILURES[name])
    assert sdk.error is not None
    _assert_equal(sdk, signed)
    assert len(signed.requests) == attempts


@pytest.mark.parametrize(
    "step",
    [
        *FAILURES.values(),
        *(FAILED[name] for name in ("throttled", "internal", "unavailable", "page 503")),
    ],
)
async def test_both_callers_succeed_at_the_second_attempt(recorder: Recorder, step: Step) -> None:
    async with paired(recorder, "DeleteMessageBatch", read_timeout=0.2) as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        sdk, signed = await pair.call("DeleteMessageBatch", request, step, SUCCESS)
    assert sdk.response is not None
    assert sdk.response["ResponseMetadata"]["RetryAttempts"] == 1
    _assert_equal(sdk, signed)


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """Return the URL of a listener whose backlog is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for each in waiting:
            each.close()


async def _call_unreachable(url: str) -> tuple[Outcome, Outcome]:
    recorder = Recorder()
    recorder.url = url
    async with paired(recorder, "DeleteMessageBatch", attempts=1, connect_timeout=0.2) as pair:
        return await pair.call("DeleteMessageBatch", REQUESTS["DeleteMessageBatch"][0], b"")


async def test_both_callers_raise_the_same_for_a_closed_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    sdk, signed = await _call_unreachable(f"http://127.0.0.1:{port}")
    assert type(sdk.error) is EndpointConnectionError
    _assert_equal(sdk, signed)


async def test_both_callers_raise_the_same_for_a_connect_timeout(full_backlog: str) -> None:
    sdk, signed = await _call_unreachable(full_backlog)
    assert type(sdk.error) is ConnectTimeoutError
    _assert_equal(sdk, signed)


async def test_both_callers_raise_the_same_for_an_unknown_host_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", look_up)
    sdk, signed = await _call_unreachable("http://nowhere.invalid")
    assert type(sdk.error) is EndpointConnectionError
    _assert_equal(sdk, signed)


NOT_RESPONSES = {
    "page": b"<html><h1>Welcome to this hotel</h1></html>",
    "empty": b"",
    "cut": b'{"Successful": [{"Id',
    "list": b"[]",
    "text": b'"ok"',
    "null": b"null",
    "no text": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "compressed unsolicited": gzip.compress(b"{}"),
}


@pytest.mark.parametrize("operation", list(REQUESTS))
@pytest.mark.parametrize("name", NOT_RESPONSES)
async def test_both_callers_reject_a_success_that_aws_cannot_have_sent(
    recorder: Recorder, operation: str, name: str
) -> None:
    async with paired(recorder, operation) as pair:
        headers = {"Content-Encoding": "gzip"} if name.startswith("compressed") else {}
        content = http_response(NOT_RESPONSES[name], headers=headers)
        sdk, signed = await pair.call(operation, REQUESTS[operation][0], content)
    if name == "empty" and operation == "ReceiveMessage":  # no messages, as for every SDK
        assert sdk.response == signed.response
        return
    assert type(sdk.error) is NoResponseError
    _assert_equal(sdk, signed)
    assert len(signed.requests) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
async def test_json_in_another_encoding_is_rejected(recorder: Recorder, encoding: str) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        content = http_response("{}".encode(encoding))
        signed = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, content)
    assert type(signed.error) is NoResponseError


@pytest.mark.parametrize(
    "content",
    [
        {"Messages": {"0": "m"}},
        {"Messages": "m"},
        {"Messages": 1},
    ],
)
async def test_messages_that_are_not_an_array_are_rejected(
    recorder: Recorder, content: Any
) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        body = json.dumps(content).encode()
        sdk, signed = await pair.call("ReceiveMessage", QUEUE, http_response(body))
    assert type(sdk.error) is NoResponseError
    _assert_equal(sdk, signed)


def _with_crc32(content: Any, error: int = 0, status: int = 200) -> bytes:
    body = json.dumps(content).encode()
    return http_response(body, status, {"x-amz-crc32": str(zlib.crc32(body) ^ error)})


INSERT = REQUESTS["BatchExecuteStatement"][1]
INSERTED = {"Responses": [{"TableName": "t"}]}


async def test_response_with_a_wrong_crc32_is_retried(recorder: Recorder) -> None:
    async with paired(recorder, "BatchExecuteStatement") as pair:
        damaged, sound = _with_crc32(INSERTED, error=1), _with_crc32(INSERTED)
        sdk, signed = await pair.call("BatchExecuteStatement", INSERT, damaged, sound)
        _assert_equal(sdk, signed)
        assert len(signed.requests) == 2
        damaged = _with_crc32({"__type": "ValidationException"}, error=1, status=400)
        _assert_equal(*await pair.call("BatchExecuteStatement", INSERT, damaged, sound))


async def test_response_with_a_wrong_crc32_is_never_accepted(recorder: Recorder) -> None:
    async with paired(recorder, "BatchExecuteStatement") as pair:
        damaged = _with_crc32(INSERTED, error=1)
        sdk, signed = await pair.call("BatchExecuteStatement", INSERT, damaged)
        through_sdk = await outcome_of(
            recorder, pair.signed, "BatchExecuteStatement", INSERT, damaged
        )
    assert sdk.response is not None, "the SDK no longer accepts the last response"
    assert len(signed.requests) == len(through_sdk.requests) == len(sdk.requests) == 3
    assert type(signed.error) is type(through_sdk.error) is ChecksumError


async def test_message_with_a_wrong_md5_is_left_in_the_queue(recorder: Recorder) -> None:
    two, four = _message("two", Body="tow"), _message("four", Body=4)
    content = {"Messages": [_message("one"), two, _message("three"), four]}
    recorder.play(http_response(json.dumps(content).encode()))
    async with paired(recorder, "ReceiveMessage") as pair:
        for caller in (pair.sdk, pair.signed):
            client: Any = None
            queue = Queue(client, QUEUE["QueueUrl"], poll_caller=caller)
            with capture_logs() as logs:
                received = await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30)
            assert [message.body for message in received] == ["one", "three"]
            assert [line["why"] for line in logs] == [
                "the body does not match its MD5",
                "MessageId, ReceiptHandle, Body: missing or not a string",
            ]
            assert "tow" not in str(logs)


async def test_message_without_an_md5_is_received(recorder: Recorder) -> None:
    content = {"Messages": [{"MessageId": "id", "Body": "b"}, {"MessageId": "no body"}]}
    async with paired(recorder, "ReceiveMessage") as pair:
        sdk, signed = await pair.call(
            "ReceiveMessage", QUEUE, http_response(json.dumps(content).encode())
        )
    assert signed.response is not None
    assert signed.response["Messages"] == content["Messages"]
    _assert_equal(sdk, signed)


async def test_informational_response_is_skipped(recorder: Recorder) -> None:
    async with paired(recorder, "DeleteMessageBatch") as pair:
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        request = REQUESTS["DeleteMessageBatch"][0]
        sdk, signed = await pair.call("DeleteMessageBatch", request, early + SUCCESS)
    assert sdk.response is not None
    _assert_equal(sdk, signed)


async def test_chunked_response_is_read_completely(recorder: Recorder) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"Failed": []}') + b"0\r\n\r\n"
    async with paired(recorder, "DeleteMessageBatch") as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        sdk, signed = await pair.call("DeleteMessageBatch", request, chunked)
    assert sdk.response is not None
    assert sdk.response["Failed"] == []
    _assert_equal(sdk, signed)


async def test_ten_calls_go_through_the_sdk_after_a_failure_to_refill_its_retry_quota(
    recorder: Recorder,
) -> None:
    request = REQUESTS["DeleteMessageBatch"][0]
    async with paired(recorder, "DeleteMessageBatch") as pair:
        assert isinstance(pair.signed, SignedCaller)
        seen: list[str] = []
        pair.signed._client.meta.events.register(
            "after-call.sqs", lambda model, **_: seen.append(model.name)
        )
        await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, SUCCESS)
        assert seen == []
        await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, FAILED["internal"])
        for _ in range(20):
            await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, SUCCESS)
        assert len(seen) == 11
    assert set(seen) <= set(SQS)
