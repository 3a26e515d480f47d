"""The SDK and the signed fast path send the same requests."""

from __future__ import annotations

import json
import os
from typing import Any

import botocore.session
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.pair import DYNAMODB, REQUESTS, SQS, opened_client, paired
from tests.wire.recorder import Recorded, Recorder, http_response
from tests.wire.signatures import verified
from worker.aws.fast_path.bodies import request_body
from worker.aws.fast_path.caller import SignedCaller

CASES = [(operation, request) for operation, requests in REQUESTS.items() for request in requests]
INVOCATION_ID = "amz-sdk-invocation-id"


def _assert_same(sdk: list[Recorded], signed: list[Recorded]) -> None:
    assert len(sdk) == len(signed) == 1
    secret_key = os.environ["AWS_SECRET_ACCESS_KEY"]
    assert verified(sdk[0], secret_key) == verified(signed[0], secret_key)
    ids = {request.headers[INVOCATION_ID] for request in (*sdk, *signed)}
    assert len(ids) == 2
    assert {len(each) for each in ids} == {36}


@pytest.mark.parametrize(("operation", "request_"), CASES)
@pytest.mark.parametrize("token", ["", "a/session+token=="])
async def test_both_callers_send_the_same_signed_request(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    request_: dict[str, Any],
    token: str,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with paired(recorder, operation) as pair:
        sdk, signed = await pair.call(operation, request_, http_response(b"{}"))
    _assert_same(sdk.requests, signed.requests)
    assert ("x-amz-security-token" in signed.requests[0].headers) == bool(token)


async def test_every_call_has_a_unique_id(recorder: Recorder) -> None:
    async with paired(recorder, "PutItem") as pair:
        recorder.play(http_response(b"{}"))
        for _ in range(3):
            await pair.signed.call("PutItem", REQUESTS["PutItem"][0])
    assert len({request.headers[INVOCATION_ID] for request in recorder.requests}) == 3


@pytest.mark.parametrize("path", ["/", "/prefix", "/a/~c/"])
async def test_endpoint_with_a_path_is_signed_like_the_sdk(recorder: Recorder, path: str) -> None:
    recorder.url += path
    async with paired(recorder, "PutItem") as pair:
        request = REQUESTS["PutItem"][0]
        sdk, signed = await pair.call("PutItem", request, http_response(b"{}"))
    _assert_same(sdk.requests, signed.requests)
    assert signed.requests[0].line == f"POST {path} HTTP/1.1"


@pytest.mark.parametrize(("service", "operations"), [("sqs", SQS), ("dynamodb", DYNAMODB)])
@pytest.mark.parametrize("account", ["", "123456789012"])
async def test_endpoints_of_aws_are_signed_like_the_sdk(
    monkeypatch: pytest.MonkeyPatch, service: str, operations: tuple[str, ...], account: str
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", account)
    async with opened_client(service, None) as client:
        signed = await SignedCaller.open(client, operations)
    urls = {exchange._url for _, exchange, _ in signed._prepared.values()}
    host = f"{account}.ddb" if account and service == "dynamodb" else service
    assert urls == {f"https://{host}.eu-west-1.amazonaws.com/"}


# With lone surrogates, which the SDK escapes.
TEXTS = st.text(st.characters())
VALUES = st.one_of(
    TEXTS, st.binary(), st.booleans(), st.none(), st.integers(-(10**30), 10**30),
    st.lists(TEXTS), st.dictionaries(TEXTS, TEXTS),
)  # fmt: skip
MODEL = botocore.session.get_session().get_service_model("dynamodb")


def _body_of_the_sdk(operation: str, request: dict[str, Any]) -> Any:
    serializer = create_serializer("json")
    written = serializer.serialize_to_request(request, MODEL.operation_model(operation))
    return written["body"]


@given(statement=st.text(st.characters(), min_size=1), values=st.lists(VALUES, min_size=1))
def test_statements_are_serialized_like_the_sdk(statement: str, values: list[Any]) -> None:
    plain = {"Statements": [{"Statement": statement, "Parameters": values}]}
    typed = [TypeSerializer().serialize(value) for value in values]
    request = {"Statements": [{"Statement": statement, "Parameters": typed}]}
    expected = _body_of_the_sdk("BatchExecuteStatement", request)
    assert json.loads(request_body("BatchExecuteStatement", plain)) == json.loads(expected)


@given(item=st.dictionaries(TEXTS, VALUES))
def test_items_are_serialized_like_the_sdk(item: dict[str, Any]) -> None:
    typed = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    expected = _body_of_the_sdk("PutItem", {"TableName": "table", "Item": typed})
    body = request_body("PutItem", {"TableName": "table", "Item": item})
    assert json.loads(body) == json.loads(expected)
    assert json.loads(expected)["TableName"] == "table"


@pytest.mark.parametrize("operation", ["SendMessageBatch", "DeleteMessageBatch"])
def test_lone_surrogate_is_escaped_like_the_sdk(operation: str) -> None:
    request = {"Entries": [{"Id": "\ud800", "BinaryValue": b"\0"}]}
    expected = {"Entries": [{"Id": "\ud800", "BinaryValue": "AA=="}]}
    assert json.loads(request_body(operation, request)) == expected


def test_unsupported_value_in_a_request_is_an_error() -> None:
    with pytest.raises(TypeError, match="object is not allowed"):
        request_body("SendMessageBatch", {"Entries": [object()]})
