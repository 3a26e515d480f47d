"""Play hosts whose clocks are slow, fast or jump: no message pays for it."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime, timedelta
from random import Random

import pytest

from tests.simulation.processes import WorkerProcess
from tests.simulation.story import drained, played, stopped
from tests.simulation.traffic import FUTURE, LATE, TEXTS, Kind, Sending, plain_ones, sha256
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


def _sent(world: World, number: int, accepted_at: datetime) -> Sending:
    [sending] = plain_ones(1, accepted_at.isoformat())
    stated = {**sending.stated, "event_id": f"e-{number}", "user_id": f"u-{number}"}
    fresh = Sending(Kind.PLAIN, json.dumps(stated), stated)
    world.send(fresh)
    return fresh


def _future(world: World) -> Sending:
    [sending] = plain_ones(1, FUTURE)
    stated = {**sending.stated, "event_id": "future", "user_id": "future"}
    late = Sending(Kind.FUTURE, json.dumps(stated), stated)
    world.send(late)
    return late


def _unpublished(world: World, version: str) -> None:
    stated = {
        **plain_ones(1, START.isoformat())[0].stated,
        "version": version,
        "content_sha256": sha256(TEXTS[version]),
    }
    world.send(Sending(Kind.LATE_POLICY, json.dumps(stated), stated))


@SKEWS
@DATES
def test_fresh_acceptances_are_recorded_for_hours_and_the_future_waits_for_a_right_clock(
    date: str | None, skew_seconds: float
) -> None:
    async def story(world: World) -> None:
        if date is not None:
            world.sqs.date = lambda: date
        worker = _started(world, "worker", skew_seconds)
        late = _future(world)
        for number in range(240):
            # A producer's own clock may be fast, too, within what is tolerated.
            _sent(world, number, _now() + timedelta(seconds=(-60, 0, 250)[number % 3]))
            await asyncio.sleep(30)
        assert len(world.audit.store) == 240
        assert not world.audit.burials
        assert not world.audit.dead_letters.messages
        worker.clock.skew = timedelta()
        await drained(world, 1001)
        assert list(world.audit.burials) == [late.body]
        await stopped(worker)

    # With the delays of the service: twelve receives are not spent within two hours.
    played(story, backoff_cap_seconds=1000.0)


def test_clocks_that_jump_while_messages_are_held_kill_none_of_them() -> None:
    async def story(world: World) -> None:
        rng = Random(1)
        workers = [_started(world, f"worker-{number}", 0) for number in range(3)]
        _future(world)
        for number in range(300):
            _sent(world, number, _now())
            rng.choice(workers).clock.skew = timedelta(
                seconds=rng.choice((0, 0, -400, 400, -7200, 7200, -172_800, 172_800))
            )
            await asyncio.sleep(rng.random() * 20)
        assert {json.loads(body)["event_id"] for body in world.audit.burials} <= {"future"}
        for worker in workers:
            worker.clock.skew = timedelta()
        await drained(world, 120)
        assert len(world.audit.store) == 300
        for worker in workers:
            await stopped(worker)

    played(story)


@SKEWS
@DATES
def test_a_version_that_is_missing_is_waited_for_by_sqss_clock(
    date: str | None, skew_seconds: float
) -> None:
    async def story(world: World) -> None:
        if date is not None:
            world.sqs.date = lambda: date
        workers = [_started(world, f"worker-{number}", skew_seconds) for number in range(3)]
        _unpublished(world, LATE)
        began_at = asyncio.get_running_loop().time()
        await world.until(lambda: bool(world.audit.burials), 300, "it is dead-lettered")
        # The audit sees that it is not earlier. Where the header is missing, or is further from
        # this host's clock than AWS lets pass, each worker knows less than all of them together.
        took = asyncio.get_running_loop().time() - began_at
        assert took <= (65 if date is None and abs(skew_seconds) < 3600 else 180)
        for worker in workers:
            await stopped(worker)

    played(story)


@SKEWS
def test_a_version_that_is_published_in_time_is_recorded_whatever_the_clock_says(
    skew_seconds: float,
) -> None:
    async def story(world: World) -> None:
        worker = _started(world, "worker", skew_seconds)
        _unpublished(world, LATE)
        await asyncio.sleep(55)
        assert not world.audit.burials
        world.publish_late()
        await drained(world, 10)
        assert len(world.audit.store) == 1
        await stopped(worker)

    played(story)
