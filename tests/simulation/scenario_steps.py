"""Steps shared by the scenarios with a single fault."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from tests.simulation.processes import WorkerProcess
from tests.simulation.traffic import SentMessage, plain_ones
from tests.simulation.virtual_clock import START, run
from tests.simulation.world import World
from worker.domain.outcome import OutcomeKind

_RESTART_SECONDS = 5.0


def run_scenario(scenario: Callable[[World], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run a scenario in a new world and audit the result."""

    async def main() -> None:
        world = await World.opened(1, **settings)
        with world.trace.logged():
            await scenario(world)
        world.audit.check()
        world.dynamodb.verify()

    run(main, seed=1)


def send_valid(world: World, count: int) -> list[SentMessage]:
    """Send valid messages and return them."""
    sent_messages = plain_ones(count, START.isoformat())
    for sent_message in sent_messages:
        world.send(sent_message)
    return sent_messages


def start_worker(world: World, name: str = "worker") -> WorkerProcess:
    """Start a worker without a process manager."""
    worker = WorkerProcess(world, name)
    worker.start()
    return worker


async def wait_until_empty(world: World, within_seconds: float = 120.0) -> None:
    """Wait until the source queue is empty."""
    await world.until(lambda: not world.audit.source.messages, within_seconds, "the queue is empty")


async def stop_worker(worker: WorkerProcess) -> dict[OutcomeKind, int]:
    """Stop a worker, check that it left no message in flight, and return its outcomes."""
    await worker.stop()
    if worker.pipeline is None:
        return {}
    assert worker.pipeline.metrics.accounting.held == 0
    assert not worker.world.audit.left_in_flight(worker.name)
    return dict(worker.pipeline.metrics.accounting.by_kind)


class ProcessManager:
    """Process manager that starts a worker and restarts it whenever it fails.

    Attributes:
        processes: All processes, the running one last.
    """

    def __init__(self, world: World, name: str) -> None:
        self.processes: list[WorkerProcess] = []
        self._world = world
        self._name = name
        self._start()

    def _start(self) -> None:
        delay = _RESTART_SECONDS if self.processes else 0.0
        name = f"{self._name}-{len(self.processes)}"
        worker = WorkerProcess(self._world, name, runs_preflight=True, delay_seconds=delay)
        worker.start()
        worker.task.add_done_callback(lambda _: self._ended(worker))
        self.processes.append(worker)

    def _ended(self, worker: WorkerProcess) -> None:
        if worker.failure is not None:
            self._start()

    async def stop(self) -> None:
        """Stop the running process and check how all the others ended."""
        await stop_worker(self.processes[-1])
        for worker in self.processes:
            worker.check()
