"""Tests of decoding: acceptances from the future, and unknown fields."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest
from structlog.testing import capture_logs

from tests.simulation.virtual_clock import WallClock, simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    body,
    clock,
    open_world,
)
from tests.unit.pipeline.running import start
from worker.domain.dead_letter import read

CLOCKS = pytest.mark.parametrize("skew_seconds", [-172_800, -600, 0, 600, 172_800])
DATES = pytest.mark.parametrize("date", [None, "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"])


@CLOCKS
@DATES
@simulated
async def test_recent_acceptance_is_recorded_whatever_the_host_clock(
    date: str | None, skew_seconds: float
) -> None:
    running = await start(host=WallClock(timedelta(seconds=skew_seconds)))
    if date is not None:
        running.world.sqs.date = lambda: date
    await asyncio.sleep(100)
    times = [clock() + timedelta(seconds=seconds) for seconds in (-7200, 0, 250)]
    await running.world.push(
        *(body(number, accepted_at=each.isoformat()) for number, each in enumerate(times))
    )
    await running.until(recorded=3)
    assert running.world.bodies(DEAD_LETTERS) == []
    await running.stop()


@CLOCKS
@simulated
async def test_future_acceptance_is_dead_lettered_only_if_both_clocks_agree(
    skew_seconds: float,
) -> None:
    host = WallClock(timedelta(seconds=skew_seconds))
    # So often is more than the attempts: what only a wrong clock keeps is not exhausted.
    running = await start(host=host, backoff_cap_seconds=60.0, max_attempts=3)
    # Later than SQS allows, and earlier than a fast clock does.
    await running.world.push(body(0, accepted_at=(clock() + timedelta(hours=5)).isoformat()))
    with capture_logs() as logs:
        await asyncio.sleep(630)
    if skew_seconds:
        assert running.figures["dead_lettered"] == running.figures["recorded"] == 0
        assert 10 <= running.pipeline.metrics.events["clock_returns"] <= 12
        assert [each["event"] for each in logs].count("clocks differ") in {10, 11}
        [why] = running.pipeline.health.why_not_ready()
        assert f"clock is {abs(skew_seconds):.0f} s" in why
        host.skew = timedelta()
    await running.until(dead_lettered=1)
    assert running.pipeline.health.why_not_ready() == []
    await running.stop()
    [letter] = await running.world.dead_letters.receive(
        10, wait_seconds=0, visibility_timeout_seconds=300
    )
    death = read(letter)
    assert death is not None
    assert death.reason == "invalid"
    assert "is in the future: more than 300 s after 2026-11-22T10:" in death.detail


@simulated
async def test_message_is_returned_if_only_the_host_clock_contradicts_it() -> None:
    host = WallClock(timedelta(days=-2))
    world = await open_world()
    await world.push(body(0, accepted_at="2026-11-22T10:08:00Z"))
    await world.source.receive(1, wait_seconds=0, visibility_timeout_seconds=600)
    await asyncio.sleep(600)  # by now it is no longer in the future, but who is to say so?
    running = await start(world, host=host, backoff_cap_seconds=60.0)
    world.sqs.date = str
    await asyncio.sleep(100)
    assert running.figures["dead_lettered"] == running.figures["recorded"] == 0
    await world.push(body(1, accepted_at="2026-11-22T10:08:00Z"))  # a first receive is a clock
    await running.until(recorded=2)
    await running.stop()


@simulated
async def test_unknown_fields_are_kept_and_counted() -> None:
    running = await start()
    await running.world.push(body(0, referrer="x", colour="y"))
    await running.until(recorded=1)
    await running.stop()
    assert running.pipeline.metrics.events["unknown_fields"] == 2
    assert json.loads(running.world.records()[0]["extra"]) == {"referrer": "x", "colour": "y"}
