"""Tests of reading, caching, publishing and retiring policies."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    TEXT,
    TEXT_SHA256,
    acceptance,
    open_world,
    policy,
)
from worker.errors import (
    AWSRejectedError,
    AWSUnavailableError,
    PolicyConflictError,
    PolicyNotFoundError,
)

WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


@simulated
async def test_a_thousand_lookups_of_one_version_read_it_and_its_languages_once() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    world.dynamodb.reads.clear()
    found = await asyncio.gather(
        *(repository.policy("acceptable-use", "2026-01") for _ in range(1000))
    )
    assert found == [policy()] * 1000
    assert world.dynamodb.reads["aup-policies"] == 2


@simulated
async def test_absence_of_a_policy_is_cached_for_a_short_time() -> None:
    world = await open_world()
    repository = world.repository(policy_absence_seconds=2.0)
    for _ in range(50):
        assert await repository.policy("acceptable-use", "2026-01") is None
    assert world.dynamodb.reads["aup-policies"] == 1
    await world.dynamodb.put_item(TableName="aup-policies", Item=_item_of(policy().model_dump()))
    await asyncio.sleep(2)
    assert await repository.policy("acceptable-use", "2026-01") == policy()


def _item_of(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else value
        for name, value in fields.items()
        if value is not None
    }


@simulated
async def test_published_policy_is_visible_immediately_in_this_process() -> None:
    world = await open_world()
    repository = world.repository(policy_absence_seconds=1000.0)
    assert await repository.policy("acceptable-use", "2026-01") is None
    with pytest.raises(PolicyNotFoundError):
        await repository.has_accepted("u-0", "acceptable-use")
    await repository.publish_policy(policy())
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    assert not await repository.has_accepted("u-0", "acceptable-use")


@simulated
async def test_cached_policy_survives_an_outage_of_its_table() -> None:
    world = await open_world()
    repository = world.repository(policy_cache_seconds=10.0)
    await repository.publish_policy(policy())
    await repository.policy("acceptable-use", "2026-01")
    await asyncio.sleep(11)
    world.dynamodb.read_error = dynamodb_error("GetItem", "InternalServerError")
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    with pytest.raises(AWSUnavailableError):
        await repository.policy("acceptable-use", "never-read")


@simulated
async def test_publishing_the_same_text_again_changes_nothing() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    again = policy(published_at=START, effective_at=START)
    assert await repository.publish_policy(again) == policy()
    assert len(world.dynamodb.tables["aup-policies"]) == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"title": "Another"},
        {"content_sha256": "0" * 64},
        {"effective_at": START + timedelta(days=1)},
    ],
)
@simulated
async def test_published_version_cannot_be_changed(changes: dict[str, Any]) -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    with pytest.raises(PolicyConflictError, match=f"2026-01 .*{TEXT_SHA256}"):
        await repository.publish_policy(policy(**changes))
    assert await repository.policies() == [policy()]


@WRITE_APIS
@simulated
async def test_first_retirement_stays(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    retired = await repository.retire_policy("acceptable-use", "2026-01", retired_at=START)
    assert retired.retired_at == START
    await repository.retire_policy(
        "acceptable-use", "2026-01", retired_at=START + timedelta(days=1)
    )
    assert (await repository.policies())[0].retired_at == START
    with pytest.raises(PolicyNotFoundError, match="2026-99 is not published"):
        await repository.retire_policy("acceptable-use", "2026-99")
    assert len(world.dynamodb.tables["aup-policies"]) == 1


@simulated
async def test_policies_are_listed_by_id_and_start() -> None:
    world = await open_world()
    repository = world.repository()
    for each in (
        policy("b", effective_at=START),
        policy("a", effective_at=START + timedelta(days=1)),
        policy("x", policy_id="another"),
    ):
        await repository.publish_policy(each)
    assert [each.version for each in await repository.policies()] == ["b", "a", "x"]
    assert [each.version for each in await repository.policies("acceptable-use")] == ["b", "a"]
    assert await repository.policies("unheard-of") == []


@simulated
async def test_has_accepted_uses_the_version_in_force() -> None:
    world = await open_world()
    repository = world.repository(policy_cache_seconds=10.0)
    await repository.publish_policy(policy("2026-01"))
    await repository.publish_policy(policy("2026-02", effective_at=START + timedelta(hours=1)))
    await repository.record(acceptance(), TEXT)
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert not await repository.has_accepted("u-1", "acceptable-use")
    await asyncio.sleep(3600)
    assert not await repository.has_accepted("u-0", "acceptable-use")
    await repository.retire_policy("acceptable-use", "2026-02")
    await asyncio.sleep(11)
    assert await repository.has_accepted("u-0", "acceptable-use")


@WRITE_APIS
@simulated
async def test_concurrent_retirements_return_the_one_that_stays(
    write_api: str,
) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    ends = [START + timedelta(days=day, microseconds=7) for day in range(5)]
    retired = await asyncio.gather(
        *(repository.retire_policy("acceptable-use", "2026-01", retired_at=end) for end in ends)
    )
    (kept,) = await repository.policies()
    assert kept.retired_at in {START + timedelta(days=day) for day in range(5)}
    assert retired == [kept] * 5


@simulated
async def test_retirement_whose_response_was_lost_is_returned() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    update = world.dynamodb.execute_statement

    async def twice(**request: Any) -> dict[str, Any]:
        await update(**request)
        return await update(**request)  # as the SDK does after a lost response

    world.dynamodb.execute_statement = twice  # type: ignore[method-assign]
    retired = await repository.retire_policy("acceptable-use", "2026-01", retired_at=START)
    assert retired.retired_at == START


@pytest.mark.parametrize(
    ("changes", "problem"),
    [({"title": None}, "title"), ({"content_sha256": "AB" * 32}, "content_sha256")],
)
@simulated
async def test_malformed_policy_item_is_named_in_the_error(
    changes: dict[str, Any], problem: str
) -> None:
    world = await open_world()
    item = {**_item_of(policy().model_dump()), **changes}
    await world.dynamodb.put_item(TableName="aup-policies", Item=item)
    repository = world.repository()
    expected = f"acceptable-use 2026-01 in aup-policies .*{problem}: .*correct the item"
    for read in (
        repository.policy("acceptable-use", "2026-01"),
        repository.policies(),
        repository.policies("acceptable-use"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy()),
    ):
        with pytest.raises(AWSRejectedError, match=expected):
            await read


@WRITE_APIS
@simulated
async def test_times_are_returned_with_stored_precision(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    start = START + timedelta(microseconds=1234)
    published = await repository.publish_policy(policy(effective_at=start))
    assert published.effective_at == START + timedelta(milliseconds=1)
    assert await repository.publish_policy(policy(effective_at=start)) == published
    assert await repository.policies() == [published]


@simulated
async def test_publishing_is_retried_while_the_table_throttles() -> None:
    world = await open_world()
    codes = ["ThrottlingError", "InternalServerError"]
    world.dynamodb.spoil_item = lambda _: codes.pop() if codes else None
    assert await world.repository().publish_policy(policy()) == policy()
    assert not codes
