"""Tests of recording, looking up and listing acceptances."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    IP,
    TEXT,
    World,
    acceptance,
    message,
    open_world,
    policy,
)
from worker.domain.evidence import verify
from worker.domain.origin import Origin
from worker.errors import (
    AWSDeniedError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
)
from worker.repository import AUPRepository, RecordResult

RECORDED, DUPLICATE, CONFLICT = RecordResult
WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


def _keys(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(item["user_id"], item["policy_version"]) for item in items]


@WRITE_APIS
@simulated
async def test_record_stores_every_field_and_verifies(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    result = await repository.record(acceptance(), TEXT, Origin.at(START - timedelta(seconds=5)))
    assert result is RECORDED
    (item,) = world.records()
    assert (item["user_id"], item["policy_version"]) == ("u-0", "acceptable-use#2026-01")
    assert item["received_at"] == "2026-11-22T09:59:55.000Z"
    assert verify(item) == []


@WRITE_APIS
@simulated
async def test_second_delivery_is_a_duplicate(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.record(acceptance(), TEXT)
    assert await repository.record(acceptance(), TEXT) is DUPLICATE
    assert await repository.record(acceptance(event_id="another click"), TEXT) is DUPLICATE
    assert len(world.records()) == 1
    world.dynamodb.verify()


@WRITE_APIS
@simulated
async def test_the_same_event_with_other_content_is_a_conflict(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.record(acceptance(), TEXT)
    assert await repository.record(acceptance(channel="forged"), TEXT) is CONFLICT
    assert await repository.record(acceptance(ip="198.51.100.1"), TEXT) is CONFLICT
    (item,) = world.records()
    assert (item["channel"], item["ip"]) == ("web", IP)


@WRITE_APIS
@simulated
async def test_write_whose_response_was_lost_counts_as_recorded(
    write_api: str,
) -> None:
    world = await open_world()
    world.dynamodb.lose_answers = 1
    repository = world.repository(write_api=write_api)
    assert await repository.record(acceptance(), TEXT) is RECORDED
    assert await repository.record(acceptance(), TEXT) is DUPLICATE
    assert len(world.records()) == 1


@simulated
async def test_one_of_two_concurrent_equal_acceptances_is_recorded() -> None:
    world = await open_world()
    repository = world.repository()
    twice = await asyncio.gather(
        repository.record(acceptance(), TEXT), repository.record(acceptance(), TEXT)
    )
    assert sorted(twice) == [DUPLICATE, RECORDED]
    assert len(world.records()) == 1


@simulated
async def test_concurrent_calls_share_batches_of_25() -> None:
    world = await open_world()
    repository = world.repository()
    await asyncio.gather(*(repository.record(acceptance(number), TEXT) for number in range(100)))
    assert [len(batch) for batch in world.dynamodb.batches] == [25] * 4
    assert len(world.records()) == 100
    assert repository.calls["BatchExecuteStatement"] == 4


@simulated
async def test_single_call_is_sent_without_delay() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance(0), TEXT)
    loop = asyncio.get_running_loop()
    begun_at = loop.time()
    await repository.record(acceptance(1), TEXT)
    # 10 ms in the fake, and at most 20 ms of simulated network latency in each direction.
    assert loop.time() - begun_at < 0.051
    assert [len(batch) for batch in world.dynamodb.batches] == [1, 1]


@simulated
async def test_batch_holds_each_key_at_most_once() -> None:
    world = await open_world()
    repository = world.repository()
    calls = [
        repository.record(acceptance(number % 7, event_id=f"e-{number}"), TEXT)
        for number in range(60)
    ]
    results = Counter(await asyncio.gather(*calls))
    assert results == {RECORDED: 7, DUPLICATE: 53}
    for batch in world.dynamodb.batches:
        assert max(Counter(_keys(batch)).values()) == 1


@WRITE_APIS
@simulated
async def test_concurrent_writes_stay_within_the_limit(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api, write_concurrency=3)
    await asyncio.gather(*(repository.record(acceptance(number), TEXT) for number in range(300)))
    assert world.dynamodb.most_writing == 3
    assert len(world.records()) == 300


@simulated
async def test_rejected_batches_stay_within_the_limit() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda items: (
        dynamodb_error("BatchExecuteStatement", "ValidationException")
        if any(item["user_id"] in {"u-3", "u-30", "u-60"} for item in items)
        else None
    )
    repository = world.repository(write_concurrency=2)
    calls = [repository.record(acceptance(number), TEXT) for number in range(100)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    bad = [number for number, result in enumerate(results) if result is not RECORDED]
    assert bad == [3, 30, 60]
    assert all(isinstance(results[number], AWSRejectedError) for number in bad)
    assert world.dynamodb.most_writing <= 2


@simulated
async def test_throttled_statement_is_retried_alone() -> None:
    world = await open_world()
    throttled = ["u-1"]

    def throttle_once(item: dict[str, Any]) -> str | None:
        if item["user_id"] in throttled:
            throttled.remove(item["user_id"])
            return "ProvisionedThroughputExceeded"
        return None

    world.dynamodb.spoil_item = throttle_once
    repository = world.repository()
    results = await asyncio.gather(*(repository.record(acceptance(n), TEXT) for n in range(3)))
    assert results == [RECORDED] * 3
    assert [len(batch) for batch in world.dynamodb.batches] == [3, 1]
    assert _keys(world.dynamodb.batches[1]) == [("u-1", "acceptable-use#2026-01")]


@simulated
async def test_throttled_write_fails_after_the_last_attempt() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "ThrottlingError"
    repository = world.repository(write_attempts=3)
    with pytest.raises(AWSThrottledError):
        await repository.record(acceptance(), TEXT)
    assert len(world.dynamodb.batches) == 3


@simulated
async def test_retries_end_at_the_call_timeout() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "InternalServerError"
    repository = world.repository(write_attempts=20, call_timeout_seconds=3.0)
    with pytest.raises(AWSUnavailableError):
        await repository.record(acceptance(), TEXT)
    assert asyncio.get_running_loop().time() < 3.5


@pytest.mark.parametrize(
    ("code", "kind"), [("AccessDenied", AWSDeniedError), ("ValidationError", AWSRejectedError)]
)
@simulated
async def test_permanent_errors_are_not_retried(code: str, kind: type[Exception]) -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: code
    with pytest.raises(kind):
        await world.repository().record(acceptance(), TEXT)
    assert len(world.dynamodb.batches) == 1


@simulated
async def test_throttling_lowers_write_concurrency_and_success_restores_it() -> None:
    world = await open_world()
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    repository = world.repository(write_concurrency=16, write_attempts=4)
    await asyncio.gather(
        *(repository.record(acceptance(n), TEXT) for n in range(200)), return_exceptions=True
    )
    lowered = repository.write_concurrency
    assert lowered <= 8
    world.dynamodb.spoil_call = lambda _: None
    world.dynamodb.most_writing = 0
    await asyncio.gather(*(repository.record(acceptance(n), TEXT) for n in range(200)))
    assert world.dynamodb.most_writing <= 16
    for number in range(200, 400):
        await repository.record(acceptance(number), TEXT)
    assert repository.write_concurrency == 16


@simulated
async def test_lowered_concurrency_limits_the_calls() -> None:
    world = await open_world()
    repository = world.repository(write_concurrency=16)
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    for number in range(3):
        with pytest.raises(AWSThrottledError):
            await repository.record(acceptance(9000 + number), TEXT)
    allowed = repository.write_concurrency
    assert allowed <= 4
    world.dynamodb.spoil_call = lambda _: None
    world.dynamodb.most_writing = 0
    await asyncio.gather(*(repository.record(acceptance(n), TEXT) for n in range(25 * 16)))
    # Sixteen successful calls may raise it by a few.
    assert world.dynamodb.most_writing <= allowed + 5


async def _accepted(world: World, count: int) -> AUPRepository:
    repository = world.repository()
    await asyncio.gather(
        *(
            repository.record(
                acceptance(
                    user_id="u", version=f"v-{number:04}", user_agent="x" * 1000, big="y" * 9000
                ),
                TEXT,
            )
            for number in range(count)
        ),
        repository.record(acceptance(user_id="u", policy_id="another"), TEXT),
        repository.record(acceptance(user_id="v"), TEXT),
    )
    return repository


@simulated
async def test_acceptances_of_a_user_are_paged_and_ordered() -> None:
    world = await open_world()
    repository = await _accepted(world, 250)
    items = [item async for item in repository.acceptances("u")]
    expected = [f"acceptable-use#v-{number:04}" for number in range(250)]
    assert [item["policy_version"] for item in items] == [*expected, "another#2026-01"]
    assert repository.calls["Query"] > 1
    only = [item async for item in repository.acceptances("u", "another")]
    assert [item["policy_id"] for item in only] == ["another"]


@simulated
async def test_acceptances_of_a_policy_exclude_longer_policy_ids() -> None:
    repository = (await open_world()).repository()
    await repository.record(acceptance(user_id="u", policy_id="use"), TEXT)
    await repository.record(acceptance(user_id="u", policy_id="use-2"), TEXT)
    assert len([item async for item in repository.acceptances("u", "use")]) == 1


@simulated
async def test_existing_record_missing_from_the_response_is_an_error() -> None:
    world = await open_world()
    world.dynamodb.spoil_item = lambda _: "DuplicateItem"
    with pytest.raises(AWSUnavailableError, match="missing from the response"):
        await world.repository().record(acceptance(), TEXT)


FOREIGN = {"user_id": "u-0", "policy_version": "acceptable-use#2026-01"}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({}, DUPLICATE),
        ({"accepted_at": "2020-01-01T00:00:00Z", "imported_by": "a script"}, DUPLICATE),
        ({"event_id": Decimal(7), "record_id": {"a"}}, DUPLICATE),
        ({"event_id": "another"}, DUPLICATE),
        ({"event_id": "event-0"}, CONFLICT),
        ({**message(), "imported_by": "a script"}, DUPLICATE),
        ({**message(), "channel": "forged"}, CONFLICT),
        ({**message(), "extra": "{"}, CONFLICT),
    ],
    ids=str,
)
@simulated
async def test_items_of_other_programs_are_compared_by_the_same_rules(
    attributes: dict[str, Any], expected: RecordResult
) -> None:
    world = await open_world()
    item = {**attributes, **FOREIGN}
    await world.dynamodb.put_item(TableName="aup-acceptances", Item=item)
    repository = world.repository()
    assert await repository.record(acceptance(), TEXT) is expected
    assert world.records() == [item]
    await repository.publish_policy(policy())
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert [each async for each in repository.acceptances("u-0")] == [item]
    with pytest.raises(AWSRejectedError, match="has changed or is gone"):
        await repository.erase(item, ["ip"])
