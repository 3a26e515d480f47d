"""What the stories of one trouble at a time begin and end with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.processes import WorkerProcess
from tests.simulation.traffic import Sending, plain_ones
from tests.simulation.virtual_clock import START, run
from tests.simulation.world import World
from worker.domain.outcome import OutcomeKind

_RESTART_SECONDS = 5.0


def played(story: Callable[[World], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Play a story in a world of its own, and audit how it ends."""

    async def main() -> None:
        world = await World.opened(1, **settings)
        with world.trace.logged():
            await story(world)
        world.audit.check()
        world.dynamodb.verify()

    run(main, seed=1)


def sent(world: World, count: int) -> list[Sending]:
    """Send good messages."""
    sendings = plain_ones(count, START.isoformat())
    for sending in sendings:
        world.send(sending)
    return sendings


def started(world: World, name: str = "worker") -> WorkerProcess:
    """Start a worker that nobody starts anew."""
    worker = WorkerProcess(world, name)
    worker.start()
    return worker


async def drained(world: World, within_seconds: float = 120.0) -> None:
    """Wait until the source queue is empty."""
    await world.until(lambda: not world.audit.source.messages, within_seconds, "the queue is empty")


async def stopped(worker: WorkerProcess) -> dict[OutcomeKind, int]:
    """Stop a worker and return the fates of what it held; nothing may be left with it."""
    await worker.stop()
    if worker.pipeline is None:
        return {}
    assert worker.pipeline.metrics.accounting.held == 0
    assert not worker.world.audit.stranded(worker.name)
    return dict(worker.pipeline.metrics.accounting.by_kind)


class Supervisor:
    """Start a worker, checks included, and start it anew whenever it ends in failure.

    Attributes:
        lives: The processes, the living one last.
    """

    def __init__(self, world: World, name: str) -> None:
        self.lives: list[WorkerProcess] = []
        self._world = world
        self._name = name
        self._start()

    def _start(self) -> None:
        delay = _RESTART_SECONDS if self.lives else 0.0
        name = f"{self._name}-{len(self.lives)}"
        worker = WorkerProcess(self._world, name, checks=True, delay_seconds=delay)
        worker.start()
        worker.task.add_done_callback(lambda _: self._ended(worker))
        self.lives.append(worker)

    def _ended(self, worker: WorkerProcess) -> None:
        if worker.failure is not None:
            self._start()

    async def stop(self) -> None:
        """Stop the living process, and check that all the others ended as they must."""
        await stopped(self.lives[-1])
        for worker in self.lives:
            worker.check()
