"""An observer limits its billed requests and leaves every dead letter in the queue."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import World, body, clock, open_world, received_message
from worker.aws.cloudwatch import CloudWatch
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSError
from worker.operations.status.observer import (
    SCAN_AFTER_CHANGE_SECONDS,
    SCAN_INTERVAL_SECONDS,
    SCAN_MAX_DEAD_LETTERS,
    Observer,
    Status,
)


class _Ages:
    """A fake CloudWatch with fixed ages."""

    def __init__(self, *ages: float | None) -> None:
        self.ages = list(ages)
        self.error: AWSError | None = None
        self.requests: list[list[str]] = []

    async def oldest_ages(self, names: Sequence[str], now: datetime) -> list[float | None]:
        assert now.tzinfo is not None
        self.requests.append(list(names))
        if self.error is not None:
            raise self.error
        return self.ages


async def _send_dead_letters(world: World, count: int, reason: str) -> None:
    for number in range(count):
        dead_letter = to_dead_letter(
            received_message(number, body=body(number)), reason, "why", dead_at=clock()
        )
        assert await world.dead_letters.send([dead_letter]) == [None]


def _observer(world: World, ages: _Ages | None = None, **changes: Any) -> Observer:
    return Observer(
        world.source,
        world.dead_letters,
        cast("CloudWatch", ages or _Ages(None, None)),
        now=clock,
        clock=asyncio.get_running_loop().time,
        **changes,
    )


async def _observe_once(world: World, ages: _Ages | None = None, **changes: Any) -> Status:
    observer = _observer(world, ages, **changes)
    status = await observer.observe(settle=True)
    await observer.aclose()
    return status


@simulated
async def test_dead_letters_are_counted_by_reason_and_stay_in_the_queue() -> None:
    world = await open_world()
    await _send_dead_letters(world, 12, "invalid")
    await _send_dead_letters(world, 3, "conflict")
    await asyncio.sleep(50)
    status = await _observe_once(world)
    reason_counts = status.reason_counts
    assert (reason_counts.counts, reason_counts.seen, reason_counts.complete) == (
        {"invalid": 12, "conflict": 3},
        15,
        True,
    )
    age = status.dead_letters.oldest_age_seconds
    assert age is not None
    assert 50 <= age < 70
    state = await world.dead_letters.state()
    assert (state.visible, state.in_flight) == (15, 0)
    report = status.report()["dead_letters"]
    assert (report["visible"], report["reasons"]["invalid"], report["reasons_whole"]) == (15, 12, 1)


@simulated
async def test_scan_is_limited_in_number_and_reported_as_incomplete(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert SCAN_MAX_DEAD_LETTERS == 1000
    monkeypatch.setattr("worker.operations.status.observer.SCAN_MAX_DEAD_LETTERS", 20)
    world = await open_world()
    await _send_dead_letters(world, 90, "invalid")
    seen = await _observe_once(world)
    reason_counts = seen.reason_counts
    assert reason_counts.known == 90
    assert 20 <= reason_counts.seen < 90
    assert not reason_counts.complete
    assert seen.dead_letters.oldest_age_seconds is None, "an older one may be among the others"
    state = await world.dead_letters.state()
    assert (state.visible, state.in_flight) == (90, 0)


@simulated
async def test_scan_is_limited_in_time_and_makes_all_messages_visible_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("worker.operations.status.observer.SCAN_MAX_SECONDS", 0.15)
    world = await open_world()
    await _send_dead_letters(world, 300, "invalid")
    reason_counts = (await _observe_once(world)).reason_counts
    assert reason_counts.seen < 300
    assert (await world.dead_letters.state()).visible == 300


@simulated
async def test_dead_letters_are_not_counted_if_disabled_or_in_flight_elsewhere() -> None:
    world = await open_world()
    empty = await _observe_once(world)
    assert (empty.reason_counts.counts, empty.dead_letters.age_unknown) == ({}, "")
    await _send_dead_letters(world, 3, "invalid")
    disabled = await _observe_once(world, visibility_timeout_seconds=None)
    assert (disabled.reason_counts.counts, disabled.reason_counts.unknown) == (
        None, "not scanned (--no-reasons)",
    )  # fmt: skip
    assert world.calls["ReceiveMessage"] == 0
    held = await world.dead_letters.receive(10, wait_seconds=0, visibility_timeout_seconds=3600)
    assert len(held) == 3
    elsewhere = await _observe_once(world)
    assert (
        elsewhere.reason_counts.counts,
        "in flight elsewhere" in elsewhere.reason_counts.unknown,
    ) == (None, True)


@simulated
async def test_dead_letter_queue_with_its_own_redrive_policy_is_not_scanned() -> None:
    world = await open_world(max_receive_count=5)
    observer = Observer(
        world.dead_letters, world.source, cast("CloudWatch", _Ages(None, None)),
        now=clock, clock=asyncio.get_running_loop().time,
    )  # fmt: skip
    await world.source.send([OutgoingMessage(body(1))])
    reason_counts = (await observer.observe(settle=True)).reason_counts
    await observer.aclose()
    assert reason_counts.counts is None
    assert "its own redrive policy" in reason_counts.unknown
    assert world.calls["ReceiveMessage"] == 0


@simulated
async def test_failed_request_is_reported_and_the_rest_of_the_status_is_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await open_world()
    await _send_dead_letters(world, 2, "invalid")
    await world.source.send([OutgoingMessage(body(1))])
    ages = _Ages()
    ages.error = AWSDeniedError("GetMetricData: AccessDenied: no")

    async def denied(*_: Any, **__: Any) -> None:
        raise AWSDeniedError("ReceiveMessage: AccessDenied: no")

    monkeypatch.setattr(world.dead_letters, "receive", denied)
    status = await _observe_once(world, ages)
    assert status.queue.state.visible == 1
    assert status.queue.oldest_age_seconds is None
    assert status.queue.age_unknown.startswith("GetMetricData")
    assert status.reason_counts.counts is None
    assert status.reason_counts.unknown.startswith("ReceiveMessage")


@simulated
async def test_cloudwatch_is_requested_at_most_once_a_minute() -> None:
    world, ages = await open_world(), _Ages(61.0, None)
    await world.source.send([OutgoingMessage(body(1))])
    observer = _observer(world, ages)
    for _ in range(100):
        status = await observer.observe(settle=True)
        await asyncio.sleep(2)
    await observer.aclose()
    assert status.queue.oldest_age_seconds == 61
    assert ages.requests == [["aup-acceptances", "aup-acceptances-dead"]] * 4


@simulated
async def test_dead_letters_are_scanned_again_after_a_change_and_not_too_often() -> None:
    world = await open_world()
    await _send_dead_letters(world, 3, "invalid")
    observer = _observer(world)
    scans = set()

    async def observed(seconds: float) -> int:
        end = clock().timestamp() + seconds
        while clock().timestamp() < end:
            status = await observer.observe(settle=True)
            scans.add(status.reason_counts.scanned_at)
            await asyncio.sleep(1)
        return len(scans)

    assert await observed(SCAN_INTERVAL_SECONDS - 30) == 1
    await _send_dead_letters(world, 1, "conflict")
    assert await observed(5) == 2
    await _send_dead_letters(world, 1, "conflict")
    assert await observed(SCAN_AFTER_CHANGE_SECONDS - 10) == 2
    assert await observed(15) == 3
    # A scan would disturb the consumer of messages that are in flight.
    await world.dead_letters.receive(1, wait_seconds=0, visibility_timeout_seconds=3600)
    await _send_dead_letters(world, 1, "conflict")
    assert await observed(60) == 3
    assert await observed(SCAN_INTERVAL_SECONDS) == 4
    await observer.aclose()


@pytest.mark.parametrize("seconds", [0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
@simulated
async def test_observer_closed_during_a_scan_makes_all_messages_visible_again(
    seconds: float,
) -> None:
    world = await open_world()
    await _send_dead_letters(world, 200, "invalid")
    observer = _observer(world)
    await observer.observe()
    settling = asyncio.create_task(observer.observe(settle=True))
    await asyncio.sleep(seconds)
    settling.cancel()
    await observer.aclose()
    state = await world.dead_letters.state()
    assert (state.visible, state.in_flight) == (200, 0)


@simulated
async def test_net_rate_is_arrivals_minus_departures_per_second() -> None:
    world = await open_world()
    observer = _observer(world, visibility_timeout_seconds=None)
    first = await observer.observe()
    await world.source.send([OutgoingMessage(body(number)) for number in range(10)])
    await asyncio.sleep(4)
    second = await observer.observe()
    received = await world.source.receive(10, wait_seconds=0, visibility_timeout_seconds=60)
    await world.source.delete(received)
    await asyncio.sleep(4)
    third = await observer.observe()
    await observer.aclose()
    assert first.queue.net_per_second is None
    assert second.queue.net_per_second == pytest.approx(10 / 4, rel=0.2)
    assert third.queue.net_per_second == pytest.approx(-len(received) / 4, rel=0.2)
    assert third.dead_letters.net_per_second == 0


@simulated
async def test_unreadable_queue_state_is_an_error() -> None:
    world = await open_world()
    world.faults.rates = FaultRates(throttled=1.0)
    with pytest.raises(AWSError):
        await _observe_once(world)
