"""State that only the table decides what is recorded already, and that nothing there locks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from tests.pitfalls.carrying import Carrying, messages, published
from tests.simulation.processes import WorkerProcess
from tests.simulation.traffic import plain_ones
from tests.simulation.virtual_clock import START, run, simulated
from tests.simulation.world import World
from tests.unit.fakes import SOURCE, body, clock, open_world, policy
from worker.domain.message import OutcomeKind
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.replay import replay


@simulated
async def test_what_was_seen_before_is_taken_anew_and_only_the_table_finds_duplicates() -> None:
    world = await open_world()
    repository = await published(world)
    carrying = Carrying(world, repository, unknown_policy_seconds=5, backoff_cap_seconds=5)
    late = [body(number, version="2026-02", content_sha256=None) for number in range(10)]
    await world.push(*late)
    # Returned under the same message id, dead, and sent back with the same content.
    await carrying.until(
        lambda: carrying.kinds[OutcomeKind.DEAD_LETTERED] == 10, 300, "all are dead"
    )
    assert carrying.kinds[OutcomeKind.RETURNED] >= 20
    await repository.publish_policy(policy("2026-02"))
    figures = await replay(world.source, world.dead_letters, DeadLetterFilter(), now=clock)
    assert figures.replayed == 10
    await carrying.until(lambda: carrying.kinds[OutcomeKind.RECORDED] == 10, 60, "all are recorded")
    await carrying.until(lambda: not messages(world), 60, "and deleted")
    await world.push(*late)
    await carrying.until(lambda: carrying.kinds[OutcomeKind.DUPLICATE] == 10, 60, "found recorded")
    await carrying.until(lambda: not messages(world), 60, "and acknowledged")
    await carrying.stop()
    assert len(world.records()) == 10
    assert world.sqs.queue(SOURCE).messages == {}


Write = Callable[[], Coroutine[Any, Any, Any]]


async def _never_lands(_: Write) -> None:
    await asyncio.Event().wait()


async def _lands_at_once(write: Write) -> None:
    await write()
    await asyncio.Event().wait()


async def _lands_long_afterwards(write: Write) -> None:
    loop = asyncio.get_running_loop()
    loop.call_later(300, lambda: loop.create_task(write()))
    await asyncio.Event().wait()


@pytest.mark.parametrize("write_api", ["batch", "put"])
@pytest.mark.parametrize("ending", [_never_lands, _lands_at_once, _lands_long_afterwards])
def test_a_worker_that_dies_while_it_writes_keeps_no_other_from_writing(
    ending: Callable[[Write], Coroutine[Any, Any, None]],
    write_api: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = {"batch": "batch_execute_statement", "put": "put_item"}[write_api]

    async def story() -> None:
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
        # As soon as the visibility of 60 s ends: nothing else has to run out.
        await world.until(lambda: not world.audit.source.messages, 75, "all are recorded")
        assert len(world.audit.store) == 20
        await asyncio.sleep(400)
        await second.stop()
        world.audit.check()
        world.dynamodb.verify()

    run(story, seed=1)
