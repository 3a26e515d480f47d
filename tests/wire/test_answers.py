"""Both ways make the same of every answer, and of none."""

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
from tests.wire.recorder import Recorder, Step, Trouble, Truncated, answer
from worker.aws.fast_path.caller import SDKCaller, SignedCaller
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


def _agree(stock: Outcome, signed: Outcome) -> None:
    """The same answer or error after as many requests; retries may bear another invocation id."""
    assert signed.answer == stock.answer
    assert len(signed.requests) == len(stock.requests)
    assert [each.body for each in signed.requests] == [each.body for each in stock.requests]
    assert [each.headers["amz-sdk-request"] for each in signed.requests] == [
        each.headers["amz-sdk-request"] for each in stock.requests
    ]
    assert type(signed.error) is type(stock.error) or _both_modelled(stock, signed)
    if type(stock.error) is not HTTPClientError:  # which quotes aiohttp
        assert str(signed.error) == str(stock.error)
    if stock.error is not None:
        assert vars(signed.error).keys() == vars(stock.error).keys()
        assert getattr(signed.error, "response", None) == getattr(stock.error, "response", None)


def _both_modelled(stock: Outcome, signed: Outcome) -> bool:
    # Each client makes its own classes of the errors in AWS's model.
    names = [[each.__qualname__ for each in type(e.error).__mro__] for e in (stock, signed)]
    return names[0] == names[1] and "ClientError" in names[0]


@pytest.mark.parametrize(("operation", "said"), GOOD)
async def test_both_ways_read_a_good_answer_alike(
    recorder: Recorder, operation: str, said: Any
) -> None:
    async with paired(recorder, operation) as pair:
        body = json.dumps(said).encode()
        stock, signed = await pair.call(operation, REQUESTS[operation][0], answer(body))
    assert stock.answer is not None
    _agree(stock, signed)


async def test_binary_attributes_are_bytes(recorder: Recorder) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        body = json.dumps({"Messages": [FULL]}).encode()
        _, signed = await pair.call("ReceiveMessage", QUEUE, answer(body))
    assert signed.answer is not None
    assert signed.answer["Messages"][0]["MessageAttributes"]["b"]["BinaryValue"] == BINARY


def _refused(code: str, status: int = 400, query: str = "", **headers: str) -> bytes:
    body = json.dumps({"__type": f"com.amazonaws.x#{code}", "message": "Words of AWS."}).encode()
    if query:
        headers["x-amzn-query-error"] = query
    return answer(body, status, headers)


FAILED: dict[str, bytes] = {
    "modelled": _refused("QueueDoesNotExist", query="AWS.SQS.NonExistentQueue;Sender"),
    "modelled by its name alone": _refused("ReceiptHandleIsInvalid"),
    "query error without a type": _refused("OverLimit", query="OverLimit"),
    "conditional": _refused("ConditionalCheckFailedException"),
    "not found": _refused("ResourceNotFoundException"),
    "access denied": _refused("AccessDeniedException"),
    "forbidden": _refused("InvalidSecurity", 403),
    "signature": _refused("InvalidSignatureException"),
    "throttled": _refused("ThrottlingException"),
    "throttled by sqs": _refused("RequestThrottled", 403, "RequestThrottled;Sender"),
    "throughput": _refused("ProvisionedThroughputExceededException"),
    "unheard of": _refused("Weird", 418),
    "internal": _refused("InternalServerError", 500),
    "unavailable": _refused("ServiceUnavailable", 503),
    "capital Message": answer(b'{"__type": "A:B#C", "Message": "M"}', 400),
    "page 503": answer(b"<html><b>Http/1.1 Service Unavailable</b></html>", 503),
    "page 400": answer(b"<html>no</html>", 400),
    "list 400": answer(b"[1]", 400),
    "bytes 400": answer(b"\xff\xfe", 400),
    "empty 400": answer(b"", 400),
    "empty 500": answer(b"", 500),
    "not modified": answer(b"", 304),
    "multiple choices": answer(b"{}", 300),
}  # fmt: skip


@pytest.mark.parametrize("operation", ["DeleteMessageBatch", "BatchExecuteStatement", "PutItem"])
@pytest.mark.parametrize("attempts", [1, 3])
@pytest.mark.parametrize("name", FAILED)
async def test_both_ways_raise_the_same_of_a_failed_answer(
    recorder: Recorder, operation: str, attempts: int, name: str
) -> None:
    async with paired(recorder, operation, attempts=attempts) as pair:
        stock, signed = await pair.call(operation, REQUESTS[operation][0], FAILED[name])
    assert stock.error is not None
    _agree(stock, signed)


GOOD_ANSWER = answer(b'{"Successful": [{"Id": "0"}, {"Id": "1"}]}')
TROUBLES: dict[str, Step] = {
    "closed": Trouble.CLOSED,
    "reset": Trouble.RESET,
    "stalled": Trouble.STALLED,
    "truncated in the head": Truncated(b"HTTP/1.1 200 OK\r\nContent-Le"),
    "truncated in the body": Truncated(GOOD_ANSWER[:-5]),
    "no HTTP": Truncated(b"220 mail.example.com ESMTP\r\n\r\n"),
    "no head that can be read": Truncated(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"),
}


@pytest.mark.parametrize("attempts", [1, 2])
@pytest.mark.parametrize("name", TROUBLES)
async def test_both_ways_raise_the_same_of_a_broken_connection(
    recorder: Recorder, attempts: int, name: str
) -> None:
    async with paired(recorder, "DeleteMessageBatch", attempts=attempts, read_timeout=0.2) as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        stock, signed = await pair.call("DeleteMessageBatch", request, TROUBLES[name])
    assert stock.error is not None
    _agree(stock, signed)
    assert len(signed.requests) == attempts


@pytest.mark.parametrize(
    "step",
    [
        *TROUBLES.values(),
        *(FAILED[name] for name in ("throttled", "internal", "unavailable", "page 503")),
    ],
)
async def test_both_ways_succeed_at_the_second_attempt(recorder: Recorder, step: Step) -> None:
    async with paired(recorder, "DeleteMessageBatch", read_timeout=0.2) as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        stock, signed = await pair.call("DeleteMessageBatch", request, step, GOOD_ANSWER)
    assert stock.answer is not None
    assert stock.answer["ResponseMetadata"]["RetryAttempts"] == 1
    _agree(stock, signed)


@pytest.fixture
def full_backlog() -> Iterator[str]:
    """Give the address of a listener that takes no more connections."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
        for each in waiting:
            each.close()


async def _unreached(url: str) -> tuple[Outcome, Outcome]:
    recorder = Recorder()
    recorder.url = url
    async with paired(recorder, "DeleteMessageBatch", attempts=1, connect_timeout=0.2) as pair:
        return await pair.call("DeleteMessageBatch", REQUESTS["DeleteMessageBatch"][0], b"")


async def test_both_ways_raise_the_same_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    stock, signed = await _unreached(f"http://127.0.0.1:{port}")
    assert type(stock.error) is EndpointConnectionError
    _agree(stock, signed)


async def test_both_ways_raise_the_same_where_nobody_answers_the_phone(full_backlog: str) -> None:
    stock, signed = await _unreached(full_backlog)
    assert type(stock.error) is ConnectTimeoutError
    _agree(stock, signed)


async def test_both_ways_raise_the_same_for_a_name_that_is_not_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    monkeypatch.setattr(type(asyncio.get_running_loop()), "getaddrinfo", look_up)
    stock, signed = await _unreached("http://nowhere.invalid")
    assert type(stock.error) is EndpointConnectionError
    _agree(stock, signed)


NO_ANSWERS = {
    "page": b"<html><h1>Welcome to this hotel</h1></html>",
    "empty": b"",
    "cut": b'{"Successful": [{"Id',
    "list": b"[]",
    "text": b'"ok"',
    "null": b"null",
    "no text": b"\xff\xfe{}",
    "deep": b"[" * 100_000,
    "compressed unasked": gzip.compress(b"{}"),
}


@pytest.mark.parametrize("operation", list(REQUESTS))
@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_both_ways_believe_no_success_that_aws_cannot_have_given(
    recorder: Recorder, operation: str, name: str
) -> None:
    async with paired(recorder, operation) as pair:
        coding = {"Content-Encoding": "gzip"} if name.startswith("compressed") else {}
        said = answer(NO_ANSWERS[name], headers=coding)
        stock, signed = await pair.call(operation, REQUESTS[operation][0], said)
    if name == "empty" and operation == "ReceiveMessage":  # no messages, as for every SDK
        assert stock.answer == signed.answer
        return
    assert type(stock.error) is NoResponseError
    _agree(stock, signed)
    assert len(signed.requests) == 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
async def test_json_in_another_encoding_is_no_answer(recorder: Recorder, encoding: str) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        said = answer("{}".encode(encoding))
        signed = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, said)
    assert type(signed.error) is NoResponseError


@pytest.mark.parametrize(
    "said",
    [
        {"Messages": {"0": "m"}},
        {"Messages": "m"},
        {"Messages": 1},
    ],
)
async def test_messages_that_are_no_list_are_no_answer(recorder: Recorder, said: Any) -> None:
    async with paired(recorder, "ReceiveMessage") as pair:
        body = json.dumps(said).encode()
        stock, signed = await pair.call("ReceiveMessage", QUEUE, answer(body))
    assert type(stock.error) is NoResponseError
    _agree(stock, signed)


def _summed(said: Any, error: int = 0, status: int = 200) -> bytes:
    body = json.dumps(said).encode()
    return answer(body, status, {"x-amz-crc32": str(zlib.crc32(body) ^ error)})


INSERT = REQUESTS["BatchExecuteStatement"][1]
INSERTED = {"Responses": [{"TableName": "t"}]}


async def test_an_answer_of_another_crc32_is_asked_for_again(recorder: Recorder) -> None:
    async with paired(recorder, "BatchExecuteStatement") as pair:
        damaged, sound = _summed(INSERTED, error=1), _summed(INSERTED)
        stock, signed = await pair.call("BatchExecuteStatement", INSERT, damaged, sound)
        _agree(stock, signed)
        assert len(signed.requests) == 2
        damaged = _summed({"__type": "ValidationException"}, error=1, status=400)
        _agree(*await pair.call("BatchExecuteStatement", INSERT, damaged, sound))


async def test_an_answer_of_another_crc32_is_never_believed(recorder: Recorder) -> None:
    async with paired(recorder, "BatchExecuteStatement") as pair:
        damaged = _summed(INSERTED, error=1)
        stock, signed = await pair.call("BatchExecuteStatement", INSERT, damaged)
        by_the_sdk = await outcome_of(
            recorder, pair.signed, "BatchExecuteStatement", INSERT, damaged
        )
    assert stock.answer is not None, "the SDK has changed: it no longer believes the last one"
    assert len(signed.requests) == len(by_the_sdk.requests) == len(stock.requests) == 3
    assert type(signed.error) is type(by_the_sdk.error) is ChecksumError


async def test_a_message_of_another_md5_is_left_in_the_queue(recorder: Recorder) -> None:
    two, four = _message("two", Body="tow"), _message("four", Body=4)
    said = {"Messages": [_message("one"), two, _message("three"), four]}
    recorder.play(answer(json.dumps(said).encode()))
    async with paired(recorder, "ReceiveMessage") as pair:
        for caller in (pair.stock, pair.signed):
            client: Any = None
            queue = Queue(client, QUEUE["QueueUrl"], poll_caller=caller)
            with capture_logs() as logs:
                taken = await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30)
            assert [message.body for message in taken] == ["one", "three"]
            assert [line["why"] for line in logs] == [
                "the body does not match its MD5",
                "MessageId, ReceiptHandle, Body: missing or not a string",
            ]
            assert "tow" not in str(logs)


async def test_without_an_md5_a_message_is_taken(recorder: Recorder) -> None:
    said = {"Messages": [{"MessageId": "id", "Body": "b"}, {"MessageId": "no body"}]}
    async with paired(recorder, "ReceiveMessage") as pair:
        stock, signed = await pair.call("ReceiveMessage", QUEUE, answer(json.dumps(said).encode()))
    assert signed.answer is not None
    assert signed.answer["Messages"] == said["Messages"]
    _agree(stock, signed)


async def test_an_informational_answer_is_passed_over(recorder: Recorder) -> None:
    async with paired(recorder, "DeleteMessageBatch") as pair:
        early = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
        request = REQUESTS["DeleteMessageBatch"][0]
        stock, signed = await pair.call("DeleteMessageBatch", request, early + GOOD_ANSWER)
    assert stock.answer is not None
    _agree(stock, signed)


async def test_an_answer_in_chunks_is_read_whole(recorder: Recorder) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"".join(b"1\r\n%c\r\n" % byte for byte in b'{"Failed": []}') + b"0\r\n\r\n"
    async with paired(recorder, "DeleteMessageBatch") as pair:
        request = REQUESTS["DeleteMessageBatch"][0]
        stock, signed = await pair.call("DeleteMessageBatch", request, chunked)
    assert stock.answer is not None
    assert stock.answer["Failed"] == []
    _agree(stock, signed)


async def test_after_a_failure_the_sdk_sees_ten_successes_that_refill_its_retries(
    recorder: Recorder,
) -> None:
    request = REQUESTS["DeleteMessageBatch"][0]
    async with paired(recorder, "DeleteMessageBatch") as pair:
        assert isinstance(pair.signed, SignedCaller)
        stock = pair.signed._sdk
        assert isinstance(stock, SDKCaller)
        seen: list[str] = []
        stock._client.meta.events.register(
            "after-call.sqs", lambda model, **_: seen.append(model.name)
        )
        await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, GOOD_ANSWER)
        assert seen == []
        await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, FAILED["internal"])
        for _ in range(20):
            await outcome_of(recorder, pair.signed, "DeleteMessageBatch", request, GOOD_ANSWER)
        assert len(seen) == 11
    assert set(seen) <= set(SQS)
