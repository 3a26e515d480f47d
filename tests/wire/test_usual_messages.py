"""Usual ReceiveMessage responses are read faster, and all others as strictly as by the SDK."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel

from tests.wire.pair import QUEUE, outcome_of, paired
from tests.wire.recorder import Recorder, http_response
from worker.aws.fast_path.bodies import read_response
from worker.aws.sqs import Queue
from worker.aws.sqs_responses import MALFORMED, read_message, read_usual_messages
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError

DATE = "Sun, 22 Nov 2026 10:00:00 GMT"
TIMES = {"SentTimestamp": "1795341600000", "ApproximateFirstReceiveTimestamp": "1795341600001"}
SYSTEM = {**TIMES, "ApproximateReceiveCount": "1"}
MODEL = ServiceModel(Loader().load_service_model("sqs", "service-2")).operation_model(
    "ReceiveMessage"
)


def _message(body: str = '{"a": "é"}', **changes: Any) -> dict[str, Any]:
    md5 = hashlib.md5(body.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()
    return {
        "MessageId": "1ba64e23-9d2e-4b5b-8d5a-3f2f3c7b9a10",
        "ReceiptHandle": "handle",
        "MD5OfBody": md5,
        "Body": body,
        "Attributes": SYSTEM,
        **changes,
    }


def _system(**changes: Any) -> dict[str, Any]:
    return _message(Attributes={**SYSTEM, **changes})


USUAL = [
    _message(),
    _message(""),
    _message("😀 \\ \x00"),
    _system(ApproximateReceiveCount="7"),
    _system(SentTimestamp="0"),
    _system(AWSTraceHeader="Root=1"),
    _system(AWSTraceHeader="", MessageGroupId="tenant"),
]
UNUSUAL = [
    _message("\ud800 half a pair"),
    _message(MD5OfBody="0" * 32),
    _message(MD5OfBody=None),
    _message(MessageId=None),
    _message(MessageId=5),
    _message(ReceiptHandle=5),
    _message(Body=5),
    _message(Attributes=None),
    _message(Attributes=TIMES),
    _message(Attributes={}),
    _message(Later="member"),
    _message(MD5OfMessageAttributes="m"),
    _message(MessageAttributes=None),
    _message(MessageAttributes={"a": {"DataType": "String", "StringValue": "s"}}),
    _message(MessageAttributes={"a": {"DataType": "Binary", "BinaryValue": "AAEC"}}),
    _message(MessageAttributes={"a": {"StringValue": "s"}}),
    _system(SentTimestamp="-99999999999999"),
    _system(SentTimestamp="-1"),
    _system(ApproximateReceiveCount="0"),
    _system(SentTimestamp="253402300800000"),
    _system(SentTimestamp="9" * 5000),
    _system(ApproximateFirstReceiveTimestamp="soon"),
    _system(ApproximateReceiveCount="1.5"),
    _system(AWSTraceHeader=5),
    _system(SenderId="AIDA"),
    {},
]


def _strict(body: bytes) -> list[ReceivedMessage] | None:
    """Return the messages as the slower reader reads them; None if any is malformed."""
    try:
        messages = read_response(MODEL, 200, body)["Messages"]
        return [read_message(each, DATE) for each in messages]
    except MALFORMED:
        return None


def _body(messages: Any, **members: Any) -> bytes:
    return json.dumps({"Messages": messages, **members}).encode()


@pytest.mark.parametrize("message", USUAL)
def test_usual_message_is_read_at_once(message: dict[str, Any]) -> None:
    body = _body([_message("first"), message])
    read = read_usual_messages(body, {"date": DATE})
    assert read is not None
    assert read == _strict(body)


@pytest.mark.parametrize("message", UNUSUAL)
def test_unusual_message_is_left_to_the_strict_reader(message: dict[str, Any]) -> None:
    assert read_usual_messages(_body([_message(), message]), {}) is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        _body(None),
        _body({}),
        _body([None]),
        _body([], Later=1),
        b'{"Messages": [{"Attributes": ' + b"[" * 100_000,
    ],
    ids=range(9),
)
def test_unusual_response_is_left_to_the_strict_reader(body: bytes) -> None:
    assert read_usual_messages(body, {}) is None


def _changed(text: str, rng: random.Random) -> str:
    """Return the text of a response with one part replaced, removed or repeated."""
    parts = text.split('"')
    at = rng.randrange(len(parts))
    match rng.randrange(5):
        case 0:
            parts[at] = rng.choice(["", "Body", "1", " ", "é", "\\u00e9", "\\ud800", ": null,"])
        case 1:
            del parts[at : at + rng.choice([1, 2, 4])]
        case 2:
            start = max(0, at - 4)
            parts[at:at] = parts[start:at]
        case 3:
            other = rng.randrange(len(parts))
            parts[at], parts[other] = parts[other], parts[at]
        case _:
            return text.replace('": "', rng.choice(['": null, "', '":"', '": 1, "']), 1)
    return '"'.join(parts)


def test_both_readers_agree_on_changed_responses() -> None:
    rng = random.Random(15)
    read_at_once = 0
    for _ in range(10_000):
        messages = rng.choices(USUAL if rng.random() < 0.7 else UNUSUAL, k=rng.randrange(1, 3))
        text = json.dumps({"Messages": messages}, ensure_ascii=rng.random() < 0.5)
        for _ in range(rng.randrange(3)):
            text = _changed(text, rng)
        body = text.encode("utf-8", "surrogatepass")
        read = read_usual_messages(body, {"date": DATE})
        if read is not None:
            read_at_once += 1
            assert read == _strict(body), body
    assert 2_500 < read_at_once < 9_000


@pytest.mark.parametrize("message", [*USUAL, *UNUSUAL])
async def test_both_callers_receive_the_same_messages(
    recorder: Recorder, message: dict[str, Any]
) -> None:
    recorder.play(http_response(_body([_message("first"), message]), headers={"Date": DATE}))
    received: list[list[ReceivedMessage]] = []
    async with paired(recorder, "ReceiveMessage") as pair:
        for caller in (pair.sdk, pair.signed):
            client: Any = None
            queue = Queue(client, QUEUE["QueueUrl"], poll_caller=caller)
            received.append(await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30))
    assert received[0] == received[1]
    assert received[0][0].date == DATE


@pytest.mark.parametrize("status", [201, 206, 299])
async def test_usual_response_with_another_status_is_rejected(
    recorder: Recorder, status: int
) -> None:
    recorder.play(http_response(_body([_message()]), status))
    async with paired(recorder, "ReceiveMessage") as pair:
        for caller in (pair.sdk, pair.signed):
            client: Any = None
            queue = Queue(client, QUEUE["QueueUrl"], poll_caller=caller)
            with pytest.raises(AWSError):
                await queue.receive(10, wait_seconds=0, visibility_timeout_seconds=30)


async def test_a_reader_that_returns_none_changes_no_response(recorder: Recorder) -> None:
    step = http_response(_body([_message()]), headers={"Date": DATE})
    async with paired(recorder, "ReceiveMessage") as pair:
        usual = await outcome_of(recorder, pair.signed, "ReceiveMessage", QUEUE, step)
        recorder.play(step)
        response = await pair.signed.call("ReceiveMessage", QUEUE, lambda _, __: None)
    assert usual.response is not None
    assert response["Messages"] == usual.response["Messages"]
