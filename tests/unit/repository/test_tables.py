"""Tests of table reads: observation and malformed responses."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import NoneType
from typing import Any, cast

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    IP,
    TEXT,
    acceptance,
    aws_settings,
    open_world,
    policy,
)
from worker.aws.access import Operation
from worker.errors import (
    AWSDeniedError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSUnavailableError,
)
from worker.repository import AUPRepository, SingletonMeta
from worker.repository.writes import Inserted


class _Observer:
    def __init__(self) -> None:
        self.observed: list[tuple[Operation, list[object]]] = []

    def observe(self, operation: Operation, results: Sequence[object], /) -> None:
        self.observed.append((operation, [type(each) for each in results]))


@simulated
async def test_every_read_and_write_is_observed_even_if_the_cache_hides_its_failure() -> None:
    world, observer = await open_world(), _Observer()
    repository = world.repository(policy_cache_seconds=60)
    await repository.publish_policy(policy())
    repository.observe(observer)
    await repository.policy("acceptable-use", "2026-01")
    await repository.record(acceptance(), TEXT)
    await repository.record(acceptance(), TEXT)  # a duplicate: causes a look-up
    await asyncio.sleep(61)
    world.dynamodb.read_error = dynamodb_error("GetItem", "AccessDeniedException")
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    world.dynamodb.spoil_item = lambda _: "AccessDenied"
    with pytest.raises(AWSDeniedError):
        await repository.record(acceptance(), TEXT)
    world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ResourceNotFoundException")
    with pytest.raises(AWSNotFoundError):
        await repository.record(acceptance(), TEXT)
    assert observer.observed == [
        (Operation.READ_POLICY, [dict]),
        (Operation.READ_POLICY, [NoneType]),  # no text in another language
        (Operation.WRITE, [Inserted]),
        (Operation.WRITE, [Inserted]),
        (Operation.LOOK_UP, [dict]),
        (Operation.READ_POLICY, [AWSDeniedError]),
        (Operation.WRITE, [AWSDeniedError]),
        (Operation.WRITE, [AWSNotFoundError]),
    ]


ITEM = {"policy_id": "acceptable-use", "version": "2026-01"}


ANOTHER = policy("2026-02").model_dump(mode="json", exclude_none=True)


class _Reads:
    """Client that returns the same response to every read."""

    def __init__(self, response: Any) -> None:
        self.response = response

    async def get_item(self, **_: Any) -> Any:
        return self.response

    query = scan = get_item


def _reading(response: Any) -> AUPRepository:
    session = SimulatedSession(cast("Any", None), cast("Any", _Reads(response)))
    return AUPRepository(aws_settings(), cast("Any", session))


@pytest.mark.parametrize(
    "item",
    [
        {}, [], "text", 5, {"policy_id": "acceptable-use"}, {**ITEM, "version": "another"},
        {**ITEM, "version": 1}, ITEM, ANOTHER, {**ITEM, "title": IP, "content_sha256": IP},
    ],
)  # fmt: skip
@simulated
async def test_malformed_or_different_item_is_not_taken_for_absent(item: Any) -> None:
    repository = _reading({"Item": item})
    with pytest.raises((AWSUnavailableError, AWSRejectedError)) as caught:
        await repository.policy("acceptable-use", "2026-01")
    assert IP not in str(caught.value)


@simulated
async def test_response_without_an_item_means_absent() -> None:
    assert await _reading({}).policy("acceptable-use", "2026-01") is None


@pytest.mark.parametrize("items", [{}, "text", 5, ["text"], [5], [ITEM]])
@simulated
async def test_malformed_page_is_unavailable(items: Any) -> None:
    for call in ("policies", "versions"):
        SingletonMeta.forget_all()
        repository = _reading({"Items": items})
        with pytest.raises((AWSUnavailableError, AWSRejectedError)):
            await repository.policies(None if call == "policies" else "acceptable-use")
