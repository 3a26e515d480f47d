"""Tests of the whole repository: probes, consistency, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    TEXT,
    acceptance,
    aws_settings,
    open_world,
    policy,
)
from worker.errors import (
    AWSRejectedError,
    RepositoryClosedError,
)
from worker.repository import RecordResult

RECORDED, DUPLICATE = RecordResult.RECORDED, RecordResult.DUPLICATE
WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


@WRITE_APIS
@simulated
async def test_probes_read_both_tables_and_write_nothing(write_api: str) -> None:
    world = await open_world()
    repository = world.repository(write_api=write_api)
    assert [await probe.error() for probe in repository.probes()] == [None] * 3
    assert world.dynamodb.reads == {"aup-policies": 1, "aup-acceptances": 1}
    write = "BatchExecuteStatement" if write_api == "batch" else "PutItem"
    assert repository.calls == {"GetItem": 2, write: 1}
    assert world.records() == []


@simulated
async def test_probes_of_tables_with_other_keys_are_rejected() -> None:
    world = await open_world()
    swapped = aws_settings(table_name="aup-acceptances", user_table_name="aup-policies")
    policies, acceptances, _ = world.repository(swapped).probes()
    assert isinstance(await policies.error(), AWSRejectedError)
    assert isinstance(await acceptances.error(), AWSRejectedError)


@simulated
async def test_closing_fails_every_kind_of_call_without_cancelling_callers() -> None:
    world = await open_world()
    repository = world.repository(write_concurrency=1)
    await repository.record(acceptance(), TEXT)
    calls = [
        *(repository.record(acceptance(number), TEXT) for number in range(1, 60)),
        *(repository.record(acceptance(), TEXT) for _ in range(5)),
        repository.policy("acceptable-use", "2026-01"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy("2026-02")),
        *(probe.attempt() for probe in repository.probes()),
    ]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_closed(call)) for call in calls]
        await asyncio.sleep(0.005)
        await repository.aclose()
    assert all(task.result() for task in tasks)
    assert not any(task.cancelling() for task in tasks)


async def _closed(call: Awaitable[object]) -> bool:
    try:
        await call
    except RepositoryClosedError:
        await asyncio.sleep(0)  # a leftover cancellation would be raised here
        return True
    return False


@simulated
async def test_caller_cancelled_during_close_stays_cancelled() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance(), TEXT)
    reading = asyncio.ensure_future(repository.probes()[0].attempt())
    await asyncio.sleep(0.005)
    reading.cancel()
    await repository.aclose()
    await asyncio.wait([reading])
    assert reading.cancelled()


@simulated
async def test_closing_fails_writes_in_flight_and_later_calls() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.record(acceptance(), TEXT)
    writing = asyncio.create_task(repository.record(acceptance(1), TEXT))
    await asyncio.sleep(0.005)
    await repository.aclose()
    with pytest.raises(RepositoryClosedError):
        await writing
    assert world.session.open_count == 0
    for call in (
        repository.record(acceptance(2), TEXT),
        repository.policy("acceptable-use", "2026-01"),
        repository.has_accepted("u-0", "acceptable-use"),
        repository.publish_policy(policy()),
    ):
        with pytest.raises(RepositoryClosedError):
            await call


@WRITE_APIS
@simulated
async def test_reads_return_the_latest_writes(write_api: str) -> None:
    world = await open_world()
    world.faults.rates = FaultRates(stale_read=1.0)
    repository = world.repository(write_api=write_api)
    await repository.publish_policy(policy())
    assert await repository.policy("acceptable-use", "2026-01") == policy()
    assert await repository.policies("acceptable-use") == [policy()]
    assert await repository.policies() == [policy()]
    assert await repository.record(acceptance(), TEXT) is RECORDED
    assert await repository.record(acceptance(), TEXT) is DUPLICATE
    assert await repository.has_accepted("u-0", "acceptable-use")
    assert len([item async for item in repository.acceptances("u-0")]) == 1
    assert asyncio.get_running_loop().time() < world.faults.durations.stale_read_seconds
