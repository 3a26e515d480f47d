"""State that a stop leaves nothing behind: no poll, no delete, no message in nobody's hands."""

from __future__ import annotations

import asyncio
from typing import Final

import pytest

from tests.pitfalls.carrying import Carrying, SlowLedger, now
from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import run
from tests.unit.fakes import DEAD_LETTERS, SOURCE, body, open_world
from worker.domain.outcome import OutcomeKind

COUNT: Final = 60
DRAIN_SECONDS: Final = 25.0


def _seconds(user: str) -> float:
    """Let most take a moment, and some longer than a drain may last."""
    return 10 * DRAIN_SECONDS if user.endswith("7") else 0.03


@pytest.mark.parametrize("milliseconds", [0, *range(5, 300, 9), 20_000, 20_010])
def test_a_stop_at_any_moment_strands_no_poll_no_delete_and_no_message(milliseconds: int) -> None:
    async def story() -> None:
        world, store = await open_world(), SlowLedger(_seconds)
        # What a call asked for that is given up happens all the same.
        world.faults.rates = FaultRates(late_landing=1.0)
        carrying = Carrying(
            world, store, slots=50, settle_concurrency=1, drain_timeout_seconds=DRAIN_SECONDS
        )
        source = world.sqs.queue(SOURCE)
        await asyncio.sleep(1)
        for number in range(COUNT):
            source.send(body(number) if number % 10 else f"nonsense {number}", {}, {}, None)
        await asyncio.sleep(milliseconds / 1000)
        stopped_at = now()
        await carrying.stop()
        assert now() - stopped_at < DRAIN_SECONDS + 1
        await asyncio.sleep(10)  # whatever was given up would land by now
        kept = await world.source.state()
        assert (kept.in_flight, kept.delayed) == (0, 0)
        recorded = carrying.kinds[OutcomeKind.RECORDED]
        assert recorded + carrying.kinds[OutcomeKind.DEAD_LETTERED] + kept.visible == COUNT
        assert len(world.bodies(DEAD_LETTERS)) == carrying.kinds[OutcomeKind.DEAD_LETTERED]

    run(story)
