"""Both ways put the same on the wire."""

from __future__ import annotations

import json
from typing import Any

import botocore.session
import pytest
from boto3.dynamodb.types import TypeSerializer
from botocore.serialize import create_serializer
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.pair import DYNAMODB, REQUESTS, SQS, opened_client, paired
from tests.wire.recorder import Recorded, Recorder, answer
from worker.aws.fast_path.bodies import request_body
from worker.aws.fast_path.caller import SignedCaller

CASES = [(operation, request) for operation, requests in REQUESTS.items() for request in requests]
DIFFERENT_EACH_TIME = "amz-sdk-invocation-id"


def _same(stock: list[Recorded], signed: list[Recorded]) -> None:
    assert len(stock) == len(signed) == 1
    assert stock[0].headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=")
    assert stock[0].without(DIFFERENT_EACH_TIME) == signed[0].without(DIFFERENT_EACH_TIME)
    ids = {request.headers[DIFFERENT_EACH_TIME] for request in (*stock, *signed)}
    assert len(ids) == 2
    assert {len(each) for each in ids} == {36}


@pytest.mark.parametrize(("operation", "request_"), CASES)
@pytest.mark.parametrize("token", ["", "a/session+token=="])
async def test_both_ways_send_the_same_request_signature_included(
    recorder: Recorder,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
    request_: dict[str, Any],
    token: str,
) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", token)
    async with paired(recorder, operation) as pair:
        stock, signed = await pair.call(operation, request_, answer(b"{}"))
    _same(stock.requests, signed.requests)
    assert ("x-amz-security-token" in signed.requests[0].headers) == bool(token)


async def test_every_call_has_an_id_of_its_own(recorder: Recorder) -> None:
    async with paired(recorder, "PutItem") as pair:
        recorder.play(answer(b"{}"))
        for _ in range(3):
            await pair.signed.call("PutItem", REQUESTS["PutItem"][0])
    assert len({request.headers[DIFFERENT_EACH_TIME] for request in recorder.requests}) == 3


@pytest.mark.parametrize("path", ["/", "/prefix", "/a/~c/"])
async def test_an_endpoint_below_a_path_is_signed_as_the_sdk_signs_it(
    recorder: Recorder, path: str
) -> None:
    recorder.url += path
    async with paired(recorder, "PutItem") as pair:
        request = REQUESTS["PutItem"][0]
        stock, signed = await pair.call("PutItem", request, answer(b"{}"))
    _same(stock.requests, signed.requests)
    assert signed.requests[0].line == f"POST {path} HTTP/1.1"


@pytest.mark.parametrize(("service", "operations"), [("sqs", SQS), ("dynamodb", DYNAMODB)])
@pytest.mark.parametrize("account", ["", "123456789012"])
async def test_with_awss_own_endpoints_our_signature_is_the_sdks(
    monkeypatch: pytest.MonkeyPatch, service: str, operations: tuple[str, ...], account: str
) -> None:
    monkeypatch.setenv("AWS_ACCOUNT_ID", account)
    async with opened_client(service, None) as client:
        caller = await SignedCaller.open(client, operations)
    urls = {form.url for form, _, _ in caller._prepared.values()}
    host = f"{account}.ddb" if account and service == "dynamodb" else service
    assert urls == {f"https://{host}.eu-west-1.amazonaws.com/"}


VALUES = st.one_of(
    st.text(), st.binary(), st.booleans(), st.none(), st.integers(-(10**30), 10**30),
    st.lists(st.text()), st.dictionaries(st.text(), st.text()),
)  # fmt: skip
MODEL = botocore.session.get_session().get_service_model("dynamodb")


def _as_the_sdk_writes(operation: str, request: dict[str, Any]) -> Any:
    serializer = create_serializer("json")
    written = serializer.serialize_to_request(request, MODEL.operation_model(operation))
    return written["body"]


@given(statement=st.text(min_size=1), values=st.lists(VALUES, min_size=1))
def test_statements_are_written_byte_for_byte_as_the_sdk_writes_them(
    statement: str, values: list[Any]
) -> None:
    plain = {"Statements": [{"Statement": statement, "Parameters": values}]}
    typed = [TypeSerializer().serialize(value) for value in values]
    request = {"Statements": [{"Statement": statement, "Parameters": typed}]}
    expected = _as_the_sdk_writes("BatchExecuteStatement", request)
    assert request_body("BatchExecuteStatement", plain) == expected


@given(item=st.dictionaries(st.text(), VALUES))
def test_items_are_written_byte_for_byte_as_the_sdk_writes_them(item: dict[str, Any]) -> None:
    typed = {name: TypeSerializer().serialize(value) for name, value in item.items()}
    expected = _as_the_sdk_writes("PutItem", {"TableName": "table", "Item": typed})
    assert request_body("PutItem", {"TableName": "table", "Item": item}) == expected
    assert json.loads(expected)["TableName"] == "table"


def test_what_no_request_can_hold_is_an_error() -> None:
    with pytest.raises(TypeError, match="object is not allowed"):
        request_body("SendMessageBatch", {"Entries": [object()]})
