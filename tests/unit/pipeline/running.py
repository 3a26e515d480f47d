"""A pipeline that runs on a simulated AWS and the virtual clock."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from tests.simulation.virtual_clock import WallClock, never_busy
from tests.unit.fakes import (
    World,
    body,
    clock,
    open_world,
    policy,
    settings,
)
from worker.domain.dead_letter import read
from worker.pipeline.assembly import assemble
from worker.pipeline.metrics import Metrics
from worker.pipeline.record import AcceptanceStore


class RunningPipeline:
    """Running pipeline, checked at its end for anything left in flight."""

    def __init__(
        self, world: World, store: AcceptanceStore, host: WallClock | None = None, **changes: Any
    ) -> None:
        self.world = world
        now = host.now if host else clock
        self.pipeline = assemble(
            (world.source, world.dead_letters),
            store,
            settings(**changes),
            metrics=Metrics(),
            now=now,
            busy=never_busy,
        )
        self.task = asyncio.create_task(self.pipeline.run())

    @property
    def figures(self) -> dict[str, Any]:
        return dict(self.pipeline.metrics.accounting.figures())

    async def until(self, **expected: int) -> None:
        async with asyncio.timeout(10_000):
            while not self.figures.items() >= expected.items():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self.pipeline.stopping.set()
        await self.task
        self.audit()

    def audit(self) -> None:
        assert self.figures["balanced"]
        assert self.figures["held"] == 0
        assert self.pipeline.slots.in_flight == 0
        assert len(self.pipeline.leases) == 0
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "worker" in str(task.get_coro())]


async def start(world: World | None = None, **changes: Any) -> RunningPipeline:
    """Return a running pipeline with the real repository and a published policy."""
    world = world or await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    return RunningPipeline(world, repository, **changes)


def now() -> float:
    """Return the virtual clock's seconds."""
    return asyncio.get_running_loop().time()


async def dead_letter_reasons(world: World) -> Counter[str]:
    """Return the number of dead letters by reason."""
    reasons = Counter[str]()
    while received := await world.dead_letters.receive(
        10, wait_seconds=0, visibility_timeout_seconds=300
    ):
        for each in received:
            info = read(each)
            assert info is not None
            reasons[info.reason] += 1
    return reasons


def bodies(count: int) -> list[str]:
    """Return the bodies of valid messages."""
    return [body(number) for number in range(count)]
