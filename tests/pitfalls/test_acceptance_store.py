"""Tests that only the table decides what is a duplicate, and that it takes no locks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.pitfalls.running import RunningPipeline, messages, published
from tests.simulation.processes import WorkerProcess
from tests.simulation.traffic import plain_ones
from tests.simulation.virtual_clock import START, run, simulated
from tests.simulation.world import World
from tests.unit.fakes import SOURCE, body, clock, open_world, policy
from worker.domain.outcome import OutcomeKind
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay


@simulated
async def test_replayed_messages_are_recorded_and_only_the_table_detects_duplicates() -> None:
    world = await open_world()
    repository = await published(world)
    running = RunningPipeline(world, repository, unknown_policy_seconds=5, backoff_cap_seconds=5)
    late = [body(number, version="2026-02", content_sha256=None) for number in range(10)]
    await world.push(*late)
    # Returned under the same message id, dead-lettered, then replayed with the same content.
    await running.until(
        lambda: running.kinds[OutcomeKind.DEAD_LETTERED] == 10, 300, "all are dead-lettered"
    )
    assert running.kinds[OutcomeKind.RETURNED] >= 20
    await repository.publish_policy(policy("2026-02"))
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.replayed == 10
    await running.until(lambda: running.kinds[OutcomeKind.RECORDED] == 10, 60, "all are recorded")
    await running.until(lambda: not messages(world), 60, "and deleted")
    await world.push(*late)
    await running.until(
        lambda: running.kinds[OutcomeKind.DUPLICATE] == 10, 60, "all are duplicates"
    )
    await running.until(lambda: not messages(world), 60, "and acknowledged")
    await running.stop()
    assert len(world.records()) == 10
    assert world.sqs.queue(SOURCE).messages == {}


Write = Callable[[], Coroutine[Any, Any, Any]]


async def _never_applied(_: Write) -> None:
    await asyncio.Event().wait()


async def _applied_at_once(write: Write) -> None:
    await write()
    await asyncio.Event().wait()


async def _applied_much_later(write: Write) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(300, lambda: loop.create_task(write()))
    await asyncio.Event().wait()


@pytest.mark.parametrize("write_api", ["batch", "put"])
@pytest.mark.parametrize("ending", [_never_applied, _applied_at_once, _applied_much_later])
def test_worker_killed_during_a_write_does_not_block_other_workers(
    ending: Callable[[Write], Coroutine[Any, Any, None]],
    write_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = {"batch": "batch_execute_statement", "put": "put_item"}[write_api]

    async def scenario() -> None:
        world = await World.opened(1, write_api=write_api)
        for sending in plain_ones(20, START.isoformat()):
            world.send(sending)
        write = getattr(world.dynamodb, name)

        async def stall(**request: Any) -> None:
            await ending(lambda: write(**request))

        monkeypatch.setattr(world.dynamodb, name, stall)
        first = WorkerProcess(world, "first")
        first.start()
        await asyncio.sleep(5)
        await first.kill()
        monkeypatch.setattr(world.dynamodb, name, write)
        second = WorkerProcess(world, "second")
        second.start()
        # As soon as the visibility timeout of 60 s ends; nothing else has to expire.
        await world.until(lambda: not world.audit.source.messages, 75, "all are recorded")
        assert len(world.audit.store) == 20
        await asyncio.sleep(400)
        await second.stop()
        world.audit.check()
        world.dynamodb.verify()

    run(scenario, seed=1)
