"""Recognition of other formats, without values in the detail."""

from __future__ import annotations

import base64
import gzip
import json
import time
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.fakes import ABSENT, IP, SESSION_ID, USER_AGENT, body, fixed_now, message
from worker.domain import hints
from worker.domain.envelope import decode
from worker.errors import RefusedError


def _detail(text: str | bytes) -> str:
    with pytest.raises(RefusedError) as caught:
        decode(text, now=fixed_now(), clock_skew_seconds=300)
    detail = caught.value.detail
    assert len(detail.splitlines()) == 1
    assert len(detail) < 1000
    assert not any(value in detail for value in (IP, USER_AGENT, SESSION_ID, "s3-bucket-name"))
    return detail


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _envelope(data: Any) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "t", "Message": data})


_POINTER = {"s3BucketName": "s3-bucket-name", "s3Key": "k"}
OTHER_FORMATS: dict[str, tuple[str | bytes, str]] = {
    "S3 pointer": (
        json.dumps(["software.amazon.payloadoffloading.PayloadS3Pointer", _POINTER]),
        "an S3 pointer of the SQS Extended Client Library",
    ),
    "S3 pointer of version 1": (
        json.dumps(["com.amazon.sqs.javamessaging.MessageS3Pointer", _POINTER]),
        "an S3 pointer of the SQS Extended Client Library",
    ),
    "base64": (_base64(body().encode()), "looks like base64 of JSON"),
    "URL-safe base64": (
        base64.urlsafe_b64encode((body(x="\u00ff?>") + " ").encode()),
        "looks like base64 of JSON",
    ),
    "base64 in lines": (base64.encodebytes(body().encode()), "looks like base64 of JSON"),
    "base64 in quotes": (json.dumps(_base64(body().encode())), "looks like base64 of JSON"),
    "base64 of gzip": (_base64(gzip.compress(body().encode())), "looks like base64 of gzip"),
    "gzip": (gzip.compress(body().encode()), "looks like gzip"),
    "UTF-16": (body().encode("utf-16"), "looks like UTF-16"),
    "S3 test event": (
        json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "s3-bucket-name"}),
        "an S3 test event",
    ),
    "S3 test event over SNS": (
        _envelope(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"})),
        "Message: an S3 test event",
    ),
    "SNS subscription": (
        json.dumps({"Type": "SubscriptionConfirmation", "TopicArn": "t", "Token": "x"}),
        "Type: an SNS SubscriptionConfirmation",
    ),
    "SNS unsubscription": (
        json.dumps({"Type": "UnsubscribeConfirmation", "TopicArn": "t", "Token": "x"}),
        "Type: an SNS UnsubscribeConfirmation",
    ),
    "S3 records": (
        json.dumps({"Records": [{"eventSource": "aws:s3", "s3": {}}]}),
        "an S3 event notification",
    ),
    "SNS records": (
        json.dumps({"Records": [{"EventSource": "aws:sns", "Sns": {}}]}),
        "an SNS event for AWS Lambda",
    ),
    "SQS records": (
        json.dumps({"Records": [{"eventSource": "aws:sqs", "body": body()}]}),
        "an SQS event for AWS Lambda",
    ),
    "records of another kind": (
        json.dumps({"Records": [{"eventSource": [IP]}]}),
        "a list of Records",
    ),
    "no records": (json.dumps({"Records": []}), "a list of Records"),
    "array": (json.dumps([message(1), message(2)]), "an array of 2 acceptances"),
    "encoded twice": (json.dumps(body()), "JSON encoded twice"),
    "encoded twice in an envelope": (_envelope(json.dumps(body())), "JSON encoded twice"),
    "wrapper": (json.dumps({"payload": message()}), "an acceptance inside payload"),
    "API Gateway": (json.dumps({"httpMethod": "POST", "body": body()}), "inside body"),
    "form": (urlencode(message()), "looks like an HTML form"),
    "XML": ('<?xml version="1.0"?><acceptance/>', "looks like XML"),
    "HTML": ("\n<!DOCTYPE html><title>502</title>", "looks like HTML"),
    "Python": (str(message()), "looks like a Python dict"),
    "JSON Lines": (f"{body(1)}\n{body(2)}\n", "looks like JSON Lines"),
    "nothing": ("  ", "the text is empty"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "hint"), OTHER_FORMATS.values(), ids=list(OTHER_FORMATS))
def test_other_format_is_recognised(text: str | bytes, hint: str) -> None:
    assert hint in _detail(text)


SPELLINGS = {
    "userId": "user_id",
    "UserId": "user_id",
    "user-id": "user_id",
    "USER_ID": "user_id",
    "user id": "user_id",
    "eventID": "event_id",
    "policyId": "policy_id",
    "acceptedAt": "accepted_at",
    "accepted_on": "accepted_at",
    "Version": "version",
    "versoin": "version",
}


@pytest.mark.parametrize(("name", "field"), SPELLINGS.items())
def test_other_spelling_of_a_missing_field_is_reported(name: str, field: str) -> None:
    detail = _detail(body(**{field: ABSENT, name: IP}))
    if name == "accepted_on":  # a different word, not a spelling
        assert detail == "accepted_at: missing"
    else:
        assert detail == f"{field}: missing (found {name}, did you mean {field}?)"


@pytest.mark.parametrize(
    "name", ["session_id", "id", "user", "user\nid", "u" * 300, "user_id" + "_" * 300, IP]
)
def test_dissimilar_name_is_not_suggested(name: str) -> None:
    assert _detail(body(user_id=ABSENT, **{name: "x"})) == "user_id: missing"


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        "a=b",
        "a sentence with a question & an answer",
        _base64(b"\x00\x01\x02 neither of them \xff"),
        "QUJDREVGR0hJSktMTU5PUA",
        '{"a": }',
        "[1, 2",
    ],
)
def test_unrecognised_text_has_no_hint(text: str) -> None:
    assert "(" not in _detail(text)


@pytest.mark.parametrize(
    "text",
    [
        "A" * 1_048_576,
        "a=" * 500_000,
        "a=b&" * 250_000,
        "<" * 1_048_576,
        "{\n" * 500_000,
        " " * 1_048_576,
        json.dumps("A" * 1_000_000),
        json.dumps({f"user_i{number}": 0 for number in range(9_000)}),
        json.dumps({f"{'eventidpolicy' * 5}{number}": 0 for number in range(9_000)}),
        json.dumps([{"event_id": 1}] * 4_000),
    ],
)
def test_recognition_takes_bounded_time(text: str) -> None:
    seconds = []
    for _ in range(3):
        started_at = time.thread_time()
        _detail(text)
        seconds.append(time.thread_time() - started_at)
    assert min(seconds) < 0.05


@given(st.binary(max_size=80))
def test_any_bytes_have_a_hint_of_one_line_or_none(content: bytes) -> None:
    assert len(hints.of_text(content).splitlines()) <= 1


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(["Records", "Event", "Type", "data", "body", "eventSource", "x"]),
                inner,
            )
        ),
        max_leaves=12,
    )
)
def test_any_value_has_a_hint_of_one_line_or_none(data: Any) -> None:
    assert len(hints.of_value(data).splitlines()) <= 1
