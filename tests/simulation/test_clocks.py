"""Tests that slow, fast and jumping clocks of hosts cost no message."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from random import Random

import pytest

from tests.simulation.processes import WorkerProcess
from tests.simulation.scenario_steps import run_scenario, stop_worker, wait_until_empty
from tests.simulation.traffic import FUTURE, LATE, TEXTS, Kind, SentMessage, plain_ones, sha256
from tests.simulation.virtual_clock import START, WallClock
from tests.simulation.world import World

SKEWS = pytest.mark.parametrize("skew_seconds", [-172_800, -600, -310, 310, 600, 172_800])
DATES = pytest.mark.parametrize("date", [None, "", "soon"])


def _started(world: World, name: str, skew_seconds: float) -> WorkerProcess:
    worker = WorkerProcess(world, name, WallClock(timedelta(seconds=skew_seconds)))
    worker.start()
    return worker


def _now() -> datetime:
    return WallClock().now()


def _sent(world: World, number: int, accepted_at: datetime) -> SentMessage:
    [sent_message] = plain_ones(1, accepted_at.isoformat())
    stated = {**sent_message.stated, "event_id": f"e-{number}", "user_id": f"u-{number}"}
    fresh = SentMessage(Kind.PLAIN, json.dumps(stated), stated)
    world.send(fresh)
    return fresh


def _future(world: World) -> SentMessage:
    [sent_message] = plain_ones(1, FUTURE)
    stated = {**sent_message.stated, "event_id": "future", "user_id": "future"}
    late = SentMessage(Kind.FUTURE, json.dumps(stated), stated)
    world.send(late)
    return late


def _unpublished(world: World, version: str) -> None:
    stated = {
        **plain_ones(1, START.isoformat())[0].stated,
        "version": version,
        "content_sha256": sha256(TEXTS[version]),
    }
    world.send(SentMessage(Kind.LATE_POLICY, json.dumps(stated), stated))


@SKEWS
@DATES
def test_acceptances_are_recorded_despite_skew_and_future_ones_wait_for_a_correct_clock(
    date: str | None, skew_seconds: float
) -> None:
    async def scenario(world: World) -> None:
        if date is not None:
            world.sqs.date = lambda: date
        worker = _started(world, "worker", skew_seconds)
        late = _future(world)
        for number in range(240):
            # A producer's clock may also be fast, within the tolerance.
            _sent(world, number, _now() + timedelta(seconds=(-60, 0, 250)[number % 3]))
            await asyncio.sleep(30)
        assert len(world.audit.store) == 240
        assert not world.audit.dead_letter_reasons
        assert not world.audit.dead_letters.messages
        worker.clock.skew = timedelta()
        await wait_until_empty(world, 1001)
        assert list(world.audit.dead_letter_reasons) == [late.body]
        await stop_worker(worker)

    # With the service's delays, twelve receives take more than two hours.
    run_scenario(scenario, backoff_cap_seconds=1000.0)


def test_clock_jumps_dead_letter_no_valid_message() -> None:
    async def scenario(world: World) -> None:
        rng = Random(1)
        workers = [_started(world, f"worker-{number}", 0) for number in range(3)]
        _future(world)
        for number in range(300):
            _sent(world, number, _now())
            rng.choice(workers).clock.skew = timedelta(
                seconds=rng.choice((0, 0, -400, 400, -7200, 7200, -172_800, 172_800))
            )
            await asyncio.sleep(rng.random() * 20)
        assert {json.loads(body)["event_id"] for body in world.audit.dead_letter_reasons} <= {
            "future"
        }
        for worker in workers:
            worker.clock.skew = timedelta()
        await wait_until_empty(world, 120)
        assert len(world.audit.store) == 300
        for worker in workers:
            await stop_worker(worker)

    run_scenario(scenario)


@SKEWS
@DATES
def test_wait_for_a_missing_version_is_measured_by_the_clock_of_sqs(
    date: str | None, skew_seconds: float
) -> None:
    async def scenario(world: World) -> None:
        if date is not None:
            world.sqs.date = lambda: date
        workers = [_started(world, f"worker-{number}", skew_seconds) for number in range(3)]
        _unpublished(world, LATE)
        began_at = asyncio.get_running_loop().time()
        await world.until(lambda: bool(world.audit.dead_letter_reasons), 300, "it is dead-lettered")
        # The audit checks that it is not earlier. Without a usable Date header, each worker
        # measures the wait only from what it has seen itself.
        took = asyncio.get_running_loop().time() - began_at
        assert took <= (65 if date is None and abs(skew_seconds) < 3600 else 180)
        for worker in workers:
            await stop_worker(worker)

    run_scenario(scenario)


@SKEWS
def test_version_published_in_time_is_recorded_despite_skew(
    skew_seconds: float,
) -> None:
    async def scenario(world: World) -> None:
        worker = _started(world, "worker", skew_seconds)
        _unpublished(world, LATE)
        await asyncio.sleep(55)
        assert not world.audit.dead_letter_reasons
        world.publish_late()
        await wait_until_empty(world, 10)
        assert len(world.audit.store) == 1
        await stop_worker(worker)

    run_scenario(scenario)
