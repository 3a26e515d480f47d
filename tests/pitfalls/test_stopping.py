"""Tests that a stop abandons no poll, no delete and no message."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.pitfalls.running import RunningPipeline, SlowStore, now
from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import run
from tests.unit.fakes import DEAD_LETTERS, SOURCE, body, open_world
from worker.domain.outcome import OutcomeKind

COUNT: Final = 60
DRAIN_SECONDS: Final = 25.0


def _seconds(user: str) -> float:
    """Return a short time for most users, and more than the drain timeout for some."""
    return 10 * DRAIN_SECONDS if user.endswith("7") else 0.03


@pytest.mark.parametrize("milliseconds", [0, *range(5, 300, 9), 20_000, 20_010])
def test_stop_at_any_moment_abandons_no_poll_no_delete_and_no_message(milliseconds: int) -> None:
    async def scenario() -> None:
        world, store = await open_world(), SlowStore(_seconds)
        # An abandoned call takes effect nevertheless.
        world.faults.rates = FaultRates(delayed_effect=1.0)
        running = RunningPipeline(
            world, store, slots=50, settle_concurrency=1, drain_timeout_seconds=DRAIN_SECONDS
        )
        source = world.sqs.queue(SOURCE)
        await asyncio.sleep(1)
        for number in range(COUNT):
            source.send(body(number) if number % 10 else f"nonsense {number}", {}, {}, None)
        await asyncio.sleep(milliseconds / 1000)
        stopped_at = now()
        await running.stop()
        assert now() - stopped_at < DRAIN_SECONDS + 1
        await asyncio.sleep(10)  # abandoned calls would have taken effect by now
        remaining = await world.source.state()
        assert (remaining.in_flight, remaining.delayed) == (0, 0)
        recorded = running.kinds[OutcomeKind.RECORDED]
        assert recorded + running.kinds[OutcomeKind.DEAD_LETTERED] + remaining.visible == COUNT
        assert len(world.bodies(DEAD_LETTERS)) == running.kinds[OutcomeKind.DEAD_LETTERED]

    run(scenario)
