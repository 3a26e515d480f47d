"""State how inserts fare, one statement at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import WatchedDynamoDB, acceptance, fixed_now, open_world
from worker.aws.fast_path.caller import SDKCaller
from worker.domain.evidence import build_item
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
        build_item(acceptance(number), received_at=fixed_now(), recorded_at=fixed_now())
        for number in range(count)
    ]


async def _dynamodb() -> WatchedDynamoDB:
    return (await open_world()).dynamodb


def _inserts(dynamodb: Any, way: type[Any] = BatchInserts, seconds: float = 10) -> Any:
    @asynccontextmanager
    async def lend() -> AsyncIterator[Any]:
        yield SDKCaller(dynamodb)

    return way(lend, "aup-acceptances", seconds, Counter())


_ADVICE = "a table service without PartiQL needs AUP_WRITE_API=put"


@simulated
async def test_a_table_service_without_partiql_is_named_with_the_setting_that_helps() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "UnknownOperationException")
    inserts = _inserts(dynamodb)
    for attempt in (inserts(_items(2)), inserts.attempt()):
        with pytest.raises(AWSUnsupportedError, match=_ADVICE):
            await attempt


@pytest.mark.parametrize(("code", "advised"), [("500", True), ("InternalServerError", False)])
@simulated
async def test_a_nameless_failure_of_the_attempt_may_be_a_lack_of_partiql(
    code: str, advised: bool
) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", code, status=500)
    with pytest.raises(AWSUnavailableError) as caught:
        await _inserts(dynamodb).attempt()
    assert (_ADVICE in str(caught.value)) is advised


@pytest.mark.parametrize("way", [BatchInserts, ConditionalPuts])
@pytest.mark.parametrize("code", ["AccessDeniedException", "ResourceNotFoundException"])
@simulated
async def test_the_attempt_fails_where_the_insert_would(way: type[Any], code: str) -> None:
    dynamodb = await _dynamodb()
    await _inserts(dynamodb, way).attempt()
    assert len(dynamodb.tables["aup-acceptances"]) == 0
    dynamodb.spoil_call = lambda _: dynamodb_error("Batch", code)
    with pytest.raises(AWSAccessError):
        await _inserts(dynamodb, way).attempt()


def test_the_statement_names_every_attribute_and_holds_no_value() -> None:
    statement = insert_statement("my-table", ("user_id", "ip"))
    assert statement == """INSERT INTO "my-table" VALUE {'user_id': ?, 'ip': ?}"""


@pytest.mark.parametrize("way", [BatchInserts, ConditionalPuts])
@simulated
async def test_both_ways_insert_once_and_then_say_that_it_exists(way: type[Any]) -> None:
    dynamodb = await _dynamodb()
    inserts = _inserts(dynamodb, way)
    items = _items(3)
    assert await inserts(items[:2]) == [Inserted.NEW, Inserted.NEW]
    assert await inserts(items[1:]) == [Inserted.EXISTS, Inserted.NEW]
    assert len(dynamodb.tables["aup-acceptances"]) == 3
    dynamodb.verify()


@pytest.mark.parametrize(("code", "expected"), CODES.items())
@simulated
async def test_each_statement_error_concerns_its_own_item(code: str, expected: Any) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_item = lambda item: code if item["user_id"] == "u-1" else None
    before, spoilt, after = await _inserts(dynamodb)(_items(3))
    assert (before, after) == (Inserted.NEW, Inserted.NEW)
    if isinstance(expected, Inserted):
        assert spoilt is expected
    else:
        assert type(spoilt) is expected
        assert code in str(spoilt)
    assert len(dynamodb.batches) == 1


@simulated
async def test_a_call_rejected_whole_is_narrowed_down_to_the_item_that_spoils_it() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda items: (
        dynamodb_error("BatchExecuteStatement", "ValidationException")
        if any(item["user_id"] == "u-7" for item in items)
        else None
    )
    results = await _inserts(dynamodb)(_items(25))
    assert isinstance(results.pop(7), AWSRejectedError)
    assert results == [Inserted.NEW] * 24
    assert dynamodb.most_writing == 1, "narrowing down must not multiply the calls under way"


@simulated
async def test_while_narrowing_down_a_failed_part_fails_only_its_own_items() -> None:
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
async def test_another_error_of_the_whole_call_is_not_repeated_item_by_item(
    code: str, kind: type[AWSError]
) -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("BatchExecuteStatement", code)
    with pytest.raises(kind, match=f"BatchExecuteStatement .*: {code}"):
        await _inserts(dynamodb)(_items(5))
    assert len(dynamodb.batches) == 1


class _Responding:
    """Respond to every batch with the same."""

    def __init__(self, responses: Any) -> None:
        self.responses = responses

    async def batch_execute_statement(self, **_: Any) -> dict[str, Any]:
        return {"Responses": self.responses}


@pytest.mark.parametrize("responses", [[], [{}], [{}, {}, {}], {"0": {}, "1": {}}, "no", None, 2])
@simulated
async def test_without_one_response_for_each_statement_the_call_is_unknown(responses: Any) -> None:
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
async def test_a_malformed_response_to_a_statement_makes_only_that_one_unknown(
    malformed: Any,
) -> None:
    good = {"TableName": "t"}
    results = await _inserts(_Responding([good, malformed, good]))(_items(3))
    assert [results[0], results[2]] == [Inserted.NEW] * 2
    assert type(results[1]) is AWSUnavailableError


@simulated
async def test_a_call_without_an_answer_ends_at_its_deadline() -> None:
    dynamodb = await _dynamodb()
    with pytest.raises(AWSUnavailableError, match=r"no response within 0\.005 s"):
        await _inserts(dynamodb, seconds=0.005)(_items(1))


@simulated
async def test_a_put_that_is_rejected_for_another_reason_is_an_error() -> None:
    dynamodb = await _dynamodb()
    dynamodb.spoil_call = lambda _: dynamodb_error("PutItem", "ValidationException")
    (result,) = await _inserts(dynamodb, ConditionalPuts)(_items(1))
    assert isinstance(result, AWSRejectedError)


class _Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


_THROTTLED = AWSThrottledError("slow down")


def test_throttling_halves_the_concurrency_and_success_restores_it() -> None:
    clock = _Clock()
    concurrency = AdaptiveConcurrency(16, clock)
    for expected in (8, 4, 2, 1, 1):
        clock.now += 1
        concurrency.learn([Inserted.NEW, _THROTTLED])
        assert concurrency.allowed == expected
    calls = 0
    while concurrency.allowed < 16:
        concurrency.learn([Inserted.NEW])
        calls += 1
    assert 16 <= calls <= 16 * 17 / 2
    for _ in range(100):
        concurrency.learn([Inserted.NEW])
    assert concurrency.allowed == 16


def test_one_wave_of_throttled_calls_halves_but_once() -> None:
    clock = _Clock()
    concurrency = AdaptiveConcurrency(16, clock)
    for _ in range(16):
        clock.now += 0.01
        concurrency.learn([_THROTTLED])
    assert concurrency.allowed == 8


def test_other_errors_do_not_lower_the_concurrency() -> None:
    concurrency = AdaptiveConcurrency(16, _Clock())
    concurrency.learn([AWSUnavailableError("down"), AWSRejectedError("bad")])
    assert concurrency.allowed == 16
