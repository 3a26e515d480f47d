"""Tests of how leases are extended and lost."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import FakeQueue, received_message
from worker.domain.message import ReceivedMessage
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSUnavailableError,
    LeaseLostError,
)
from worker.pipeline.lease import Leases

VISIBILITY = 120.0


@asynccontextmanager
async def _running(
    queue: FakeQueue, events: Counter[str] | None = None, *, concurrency: int = 8
) -> AsyncIterator[Leases]:
    leases = Leases(queue.change_visibility, VISIBILITY, concurrency=concurrency, events=events)
    task = asyncio.create_task(leases.run())
    try:
        yield leases
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _now() -> float:
    return asyncio.get_running_loop().time()


def _handles(batch: Sequence[tuple[ReceivedMessage, float]]) -> list[str]:
    return [each.receipt_handle for each, _ in batch]


@simulated
async def test_lease_is_extended_at_half_its_time_until_released() -> None:
    queue, events = FakeQueue(), Counter[str]()
    async with _running(queue, events) as leases:
        lease = leases.hold(received_message())
        await asyncio.sleep(59)
        assert queue.log == []
        await asyncio.sleep(541)
        assert len(queue.of("change")) == 9
        assert queue.entries("change")[0] == (received_message(), VISIBILITY)
        assert await lease.stop()
    assert events == {"lease_extended": 9}


@simulated
async def test_leases_are_extended_in_batches_of_ten() -> None:
    queue = FakeQueue()
    async with _running(queue) as leases:
        for number in range(95):
            leases.hold(received_message(number))
            await asyncio.sleep(0.01)
        await asyncio.sleep(70)
    assert [len(batch) for batch in queue.of("change")] == [10] * 9 + [5]
    assert queue.most_under_way["change"] <= 8
    assert len(set(_handles(queue.entries("change")))) == 95


@simulated
async def test_only_extensions_due_within_a_second_share_a_batch() -> None:
    queue = FakeQueue()
    async with _running(queue) as leases:
        for number, pause in enumerate((0.9, 1.5, 0.0)):
            leases.hold(received_message(number))
            await asyncio.sleep(pause)
        await asyncio.sleep(61)
    first, second = queue.of("change")
    assert _handles(first) == ["handle-0", "handle-1"]
    assert _handles(second) == ["handle-2"]


@simulated
async def test_many_leases_are_extended_in_time_with_few_concurrent_batches() -> None:
    queue, events = FakeQueue(seconds=1.0), Counter[str]()
    async with _running(queue, events, concurrency=2) as leases:
        held = [leases.hold(received_message(number)) for number in range(500)]
        await asyncio.sleep(600)
        assert queue.most_under_way["change"] == 2
        assert all([await lease.stop() for lease in held])
    assert events["lease_lost"] == 0


@simulated
async def test_stopped_lease_is_not_extended() -> None:
    queue = FakeQueue()
    async with _running(queue) as leases:
        first, second = leases.hold(received_message(1)), leases.hold(received_message(2))
        await asyncio.sleep(30)
        assert await first.stop()
        await asyncio.sleep(40)
        assert _handles(queue.entries("change")) == ["handle-2"]
        assert await second.stop()
        assert len(leases) == 0


@simulated
async def test_stop_waits_for_an_extension_in_flight() -> None:
    queue = FakeQueue(seconds=5.0)
    async with _running(queue) as leases:
        lease = leases.hold(received_message())
        await asyncio.sleep(61)
        assert queue.under_way["change"] == 1
        assert await lease.stop()
        assert queue.under_way["change"] == 0
        assert _now() == pytest.approx(65)


@simulated
async def test_expired_lease_is_lost() -> None:
    events = Counter[str]()
    leases = Leases(FakeQueue().change_visibility, VISIBILITY, events=events)
    lease = leases.hold(received_message())
    await asyncio.sleep(121)
    assert not await lease.stop()
    assert lease.lost
    assert events == {"lease_lost": 1}


@simulated
async def test_older_lease_is_lost_when_the_message_is_received_again() -> None:
    queue, events = FakeQueue(), Counter[str]()
    async with _running(queue, events) as leases:
        older = leases.hold(received_message(receipt_handle="old"))
        await asyncio.sleep(10)
        newer = leases.hold(received_message(receipt_handle="new"))
        assert older.lost
        await asyncio.sleep(100)
        assert _handles(queue.entries("change")) == ["new"]
        assert not await older.stop()
        await asyncio.sleep(100)
        assert set(_handles(queue.entries("change"))) == {"new"}
        assert await newer.stop()
    assert events["lease_lost"] == 1


@pytest.mark.parametrize(
    "error", [LeaseLostError("gone"), AWSRejectedError("12 hours"), AWSNotFoundError("gone")]
)
@simulated
async def test_failed_entry_loses_only_its_own_lease(error: AWSError) -> None:
    queue, events = FakeQueue(), Counter[str]()
    queue.on_change = lambda entries: [
        error if each.receipt_handle == "handle-3" else None for each, _ in entries
    ]
    async with _running(queue, events) as leases:
        held = [leases.hold(received_message(number)) for number in range(10)]
        await asyncio.sleep(300)
        lost = [lease.message.message_id for lease in held if lease.lost]
        assert lost == ["message-3"]
        assert _handles(queue.entries("change")).count("handle-3") == 1
        assert _handles(queue.entries("change")).count("handle-4") >= 4
        for lease in held:
            assert await lease.stop() is not lease.lost
    assert events["lease_lost"] == 1


@pytest.mark.parametrize("error", [AWSUnavailableError("down"), AWSDeniedError("no")])
@pytest.mark.parametrize("whole", [True, False])
@simulated
async def test_transient_failure_is_retried_until_the_lease_expires(
    error: AWSError, whole: bool
) -> None:
    queue, events = FakeQueue(), Counter[str]()
    queue.on_change = lambda entries: error if whole else [error] * len(entries)
    async with _running(queue, events) as leases:
        lease = leases.hold(received_message())
        await asyncio.sleep(119)
        assert 30 < len(queue.log) < 100
        assert events["lease_lost"] == 0
        await asyncio.sleep(3)
        assert lease.lost
    assert events == {"lease_lost": 1}


@simulated
async def test_transient_failure_does_not_lose_the_lease() -> None:
    queue, events = FakeQueue(), Counter[str]()
    queue.on_change = lambda _: AWSUnavailableError("down")
    async with _running(queue, events) as leases:
        lease = leases.hold(received_message())
        await asyncio.sleep(100)
        queue.on_change = lambda entries: [None] * len(entries)
        await asyncio.sleep(500)
        assert await lease.stop()
    assert events["lease_lost"] == 0


@simulated
async def test_extension_counts_from_its_request() -> None:
    queue = FakeQueue(seconds=9.0)
    async with _running(queue) as leases:
        lease = leases.hold(received_message())
        await asyncio.sleep(70)
        assert lease.expires_at == pytest.approx(60 + VISIBILITY, abs=1)


@simulated
async def test_no_timer_without_leases() -> None:
    queue = FakeQueue()
    async with _running(queue) as leases:
        await asyncio.sleep(10_000)
        lease = leases.hold(received_message())
        await asyncio.sleep(61)
        assert len(queue.log) == 1
        await lease.stop()
        await asyncio.sleep(VISIBILITY)
        loop: Any = asyncio.get_running_loop()
        assert not loop._scheduled
