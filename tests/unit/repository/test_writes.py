"""Tests of inserts, their results and their concurrency."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import TEXT, WatchedDynamoDB, acceptance, fixed_now, open_world
from worker.aws.fast_path.caller import Caller
from worker.domain.evidence import build_item
from worker.domain.origin import Origin
from worker.errors import (
    AWSAccessError,
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
)
from worker.repository.writes import (
    AdaptiveConcurrency,
    BatchInserts,
    ConditionalPuts,
    Inserted,
    insert_statement,
)

# Each code of BatchStatementError, in the DynamoDB API reference.
CODES = {
    "ConditionalCheckFailed": Inserted.EXISTS,
    "DuplicateItem": Inserted.EXISTS,
    "ItemCollectionSizeLimitExceeded": AWSRejectedError,
    "RequestLimitExceeded": AWSThrottledError,
    "ValidationError": AWSRejectedError,
    "ProvisionedThroughputExceeded": AWSThrottledError,
    "TransactionConflict": AWSThrottledError,
    "ThrottlingError": AWSThrottledError,
    "InternalServerError": AWSUnavailableError,
    "ResourceNotFound": AWSNotFoundError,
    "AccessDenied": AWSDeniedError,
    "SomethingNew": AWSUnavailableError,
}


def _items(count: int) -> list[dict[str, Any]]:
    return [
        build_item(acceptance(number), TEXT, Origin.at(fixed_now()), recorded_at=fixed_now())
        for number in range(count)
    ]


async def _dynamodb() -> WatchedDynamoDB:
    return (await open_world()).dynamodb


def _inserts(dynamodb: Any, kind: type[Any] = BatchInserts, seconds: float = 10) -> Any:
    @asynccontextmanager
    async def open_caller() -> AsyncIterator[Any]:
        yield Caller(dynamodb)

    return kind(open_caller, "aup-acceptances", seconds, Counter(), "user_id")


_ADVICE = "a table service without PartiQL needs AUP_WRITE_API=put"


@simulated
async def test_error_of_a_server_without_partiql_names_the_setting() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "UnknownOperationException")
    inserts = _inserts(dynamodb)
    for attempt in (inserts(_items(2)), inserts.attempt()):
        with pytest.raises(AWSUnsupportedError, match=_ADVICE):
            await attempt


@pytest.mark.parametrize(("code", "advised"), [("500", True), ("InternalServerError", False)])
@simulated
async def test_failed_attempt_without_an_error_code_advises_the_setting(
    code: str, advised: bool
) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", code, status=500)
    with pytest.raises(AWSUnavailableError) as caught:
        await _inserts(dynamodb).attempt()
    assert (_ADVICE in str(caught.value)) is advised


@pytest.mark.parametrize("kind", [BatchInserts, ConditionalPuts])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
@simulated
async def test_attempt_fails_when_inserts_are_not_permitted(kind: type[Any], code: str) -> None:
    dynamodb = await _dynamodb()
    await _inserts(dynamodb, kind).attempt()
    assert len(dynamodb.tables["aup-acceptances"]) == 0
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", code)
    with pytest.raises(AWSAccessError):
        await _inserts(dynamodb, kind).attempt()


def test_statement_names_every_attribute_and_contains_no_value() -> None:
    statement = insert_statement("my-table", ("user_id", "ip"))
    assert statement == """INSERT INTO "my-table" VALUE {'user_id': ?, 'ip': ?}"""


@pytest.mark.parametrize("kind", [BatchInserts, ConditionalPuts])
@simulated
async def test_second_insert_of_an_item_reports_that_it_exists(kind: type[Any]) -> None:
    dynamodb = await _dynamodb()
    inserts = _inserts(dynamodb, kind)
    items = _items(3)
    assert await inserts(items[:2]) == [Inserted.NEW, Inserted.NEW]
    assert await inserts(items[1:]) == [Inserted.EXISTS, Inserted.NEW]
    assert len(dynamodb.tables["aup-acceptances"]) == 3
    dynamodb.verify()


@pytest.mark.parametrize(("code", "expected"), CODES.items())
@simulated
async def test_statement_error_affects_only_its_item(code: str, expected: Any) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_item = lambda item: code if item["user_id"] == "u-1" else None
    before, failed, after = await _inserts(dynamodb)(_items(3))
    assert (before, after) == (Inserted.NEW, Inserted.NEW)
    if isinstance(expected, Inserted):
        assert failed is expected
    else:
        assert type(failed) is expected
        assert code in str(failed)
    assert len(dynamodb.batches) == 1


@simulated
async def test_rejected_call_is_split_down_to_the_rejected_item() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda items: (
        dynamodb_error("BatchExecuteStatement", "ValidationException")
        if any(item["user_id"] == "u-7" for item in items)
        else None
    )
    results = await _inserts(dynamodb)(_items(25))
    assert isinstance(results.pop(7), AWSRejectedError)
    assert results == [Inserted.NEW] * 24
    assert dynamodb.most_writing == 1, "splitting a call must not add concurrent calls"


@simulated
async def test_failed_part_of_a_split_call_fails_only_its_items() -> None:
    dynamodb = await _dynamodb()

    def spoil(items: Sequence[dict[str, Any]]) -> Exception | None:
        users = [item["user_id"] for item in items]
        if len(items) == 4:
            return dynamodb_error("BatchExecuteStatement", "ValidationException")
        if "u-3" in users:
            return dynamodb_error("BatchExecuteStatement", "ThrottlingException")
        return None

    dynamodb.spoil_call = spoil
    results = await _inserts(dynamodb)(_items(4))
    assert results[:2] == [Inserted.NEW, Inserted.NEW]
    assert isinstance(results[3], AWSThrottledError)
    assert len(results) == 4


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ProvisionedThroughputExceededException", AWSThrottledError),
        ("AccessDeniedException", AWSDeniedError),
        ("ResourceNotFoundException", AWSNotFoundError),
        ("InternalServerError", AWSUnavailableError),
    ],
)
@simulated
async def test_other_errors_of_a_call_are_not_retried_item_by_item(
    code: str, kind: type[AWSError]
) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("BatchExecuteStatement", code)
    with pytest.raises(kind, match=f"BatchExecuteStatement .*: {code}"):
        await _inserts(dynamodb)(_items(5))
    assert len(dynamodb.batches) == 1


class _Responding:
    """Client that returns the same responses to every batch."""

    def __init__(self, responses: Any) -> None:
        self.responses = responses

    async def batch_execute_statement(self, **_: Any) -> dict[str, Any]:
        return {"Responses": self.responses}


@pytest.mark.parametrize("responses", [[], [{}], [{}, {}, {}], {"0": {}, "1": {}}, "no", None, 2])
@simulated
async def test_wrong_number_of_responses_makes_the_call_unavailable(responses: Any) -> None:
    with pytest.raises(AWSUnavailableError, match="2 statements"):
        await _inserts(_Responding(responses))(_items(2))


@pytest.mark.parametrize(
    "malformed",
    [
        None, "DuplicateItem", [], 1, {"Error": "DuplicateItem"}, {"Error": {}}, {"Error": []},
        {"Error": ""}, {"Error": False}, {"Error": {"Message": "m"}}, {"Error": {"Code": 5}},
        {"Error": {"Code": None}},
    ],
)  # fmt: skip
@simulated
async def test_malformed_response_to_a_statement_affects_only_its_item(
    malformed: Any,
) -> None:
    good = {"TableName": "t"}
    results = await _inserts(_Responding([good, malformed, good]))(_items(3))
    assert [results[0], results[2]] == [Inserted.NEW] * 2
    assert type(results[1]) is AWSUnavailableError


@simulated
async def test_call_without_a_response_ends_at_its_timeout() -> None:
    dynamodb = await _dynamodb()
    with pytest.raises(AWSUnavailableError, match=r"no response within 0\.005 s"):
        await _inserts(dynamodb, seconds=0.005)(_items(1))


@simulated
async def test_put_rejected_for_another_reason_is_an_error() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("PutItem", "ValidationException")
    (result,) = await _inserts(dynamodb, ConditionalPuts)(_items(1))
    assert isinstance(result, AWSRejectedError)


_THROTTLED = AWSThrottledError("slow down")


def test_throttling_halves_the_concurrency_and_success_restores_it() -> None:
    concurrency = AdaptiveConcurrency(16)
    for now, expected in enumerate((8, 4, 2, 1, 1)):
        concurrency.adjust([Inserted.NEW, _THROTTLED], now)
        assert concurrency.allowed == expected
    calls = 0
    while concurrency.allowed < 16:
        concurrency.adjust([Inserted.NEW], 5)
        calls += 1
    assert 16 <= calls <= 16 * 17 / 2
    for _ in range(100):
        concurrency.adjust([Inserted.NEW], 5)
    assert concurrency.allowed == 16


def test_one_burst_of_throttled_calls_halves_the_concurrency_once() -> None:
    concurrency = AdaptiveConcurrency(16)
    for number in range(16):
        concurrency.adjust([_THROTTLED], 0.01 * number)
    assert concurrency.allowed == 8


def test_other_errors_do_not_lower_the_concurrency() -> None:
    concurrency = AdaptiveConcurrency(16)
    concurrency.adjust([AWSUnavailableError("down"), AWSRejectedError("bad")], 0)
    assert concurrency.allowed == 16
