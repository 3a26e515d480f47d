"""A dry run of a replay predicts the outcome of each dead letter and sends nothing."""

from __future__ import annotations

from dataclasses import replace

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import SOURCE, FakeAcceptanceStore, World, body, clock, open_world, policy
from tests.unit.operations.dead_letters.dead_letter_queue import (
    send_dead_letters,
    visible_and_in_flight,
)
from worker.domain.message import OutgoingMessage
from worker.operations.dead_letters.dry_run import SUCCEEDS, DryRun
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import Progress
from worker.operations.dead_letters.replay import replay_dry_run
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.scan import Scan

_ALL = DeadLetterFilter()


async def _verdicts(world: World, filters: DeadLetterFilter, options: ReplayOptions) -> list[str]:
    dry_run = DryRun(FakeAcceptanceStore(policy()).policy, clock_skew_seconds=300, now=clock)
    async with Scan(world.dead_letters, now=clock) as scan:
        options = replace(options, dry_run=dry_run)
        verdicts = replay_dry_run(scan, filters, options, sent=Progress())
        return [verdict.code async for _, verdict in verdicts]


@simulated
async def test_nothing_is_sent_and_every_message_stays_in_the_queue() -> None:
    world = await open_world()
    await send_dead_letters(world, 12)
    assert await _verdicts(world, _ALL, ReplayOptions()) == [SUCCEEDS] * 12
    assert world.bodies(SOURCE) == []
    assert await visible_and_in_flight(world.dead_letters) == (12, 0)


@simulated
async def test_conflict_stays_a_conflict_unless_it_is_edited() -> None:
    world = await open_world()
    await send_dead_letters(world, 1, "conflict")
    assert await _verdicts(world, _ALL, ReplayOptions()) == ["conflict"]
    options = ReplayOptions(edit=lambda _: OutgoingMessage(body(7)))
    assert await _verdicts(world, _ALL, options) == [SUCCEEDS]


@simulated
async def test_message_that_cannot_be_sent_fails() -> None:
    world = await open_world()
    await send_dead_letters(world, 1)
    assert await _verdicts(world, _ALL, ReplayOptions(max_bytes=10)) == ["failed"]


@simulated
async def test_skipped_dead_letters_do_not_count_towards_the_limit() -> None:
    world = await open_world()
    await send_dead_letters(world, 5)
    skipping = ReplayOptions(max_replays=0)
    assert await _verdicts(world, DeadLetterFilter(limit=2), skipping) == ["skipped"] * 5
    assert len(await _verdicts(world, DeadLetterFilter(limit=2), ReplayOptions())) == 2
    assert await _verdicts(world, DeadLetterFilter(reasons=["conflict"]), ReplayOptions()) == []
