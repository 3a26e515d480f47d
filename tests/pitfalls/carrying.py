"""Run the real pipeline on a simulated AWS and the virtual clock, and audit it when it stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.simulation.sqs_messages import StoredMessage
from tests.unit.fakes import SOURCE, FakeAcceptanceStore, World, clock, policy, settings
from worker.aws.sqs import Queue
from worker.domain.acceptance import Acceptance
from worker.domain.outcome import OutcomeKind
from worker.pipeline.assembly import assemble
from worker.pipeline.metrics import Metrics
from worker.pipeline.record import AcceptanceStore
from worker.repository import AUPRepository, RecordResult


class Carrying:
    """A pipeline that runs.

    Args:
        world: the simulated AWS.
        ledger: the repository, or what stands for it.
        source: instead of the world's own queue.
        changes: of the settings.
    """

    def __init__(
        self, world: World, store: AcceptanceStore, *, source: Queue | None = None, **changes: Any
    ) -> None:
        self.world = world
        self.pipeline = assemble(
            (source or world.source, world.dead_letters),
            store,
            settings(**changes),
            metrics=Metrics(),
            now=clock,
        )
        self.task = asyncio.create_task(self.pipeline.run())

    @property
    def kinds(self) -> Counter[OutcomeKind]:
        """How deliveries ended so far."""
        return self.pipeline.metrics.accounting.by_kind

    @property
    def events(self) -> Counter[str]:
        """What happened besides."""
        return self.pipeline.metrics.events

    async def until(self, holds: Callable[[], bool], within_seconds: float, what: str) -> None:
        """Wait for something that must come to pass in time.

        Raises:
            AssertionError: it did not.
            AUPError: the pipeline ended with this.
        """
        deadline = now() + within_seconds
        while not holds():
            if self.task.done():
                self.task.result()
            assert now() < deadline, f"not within {within_seconds:g} s: {what}"
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Drain, and check that nothing is left behind."""
        self.pipeline.stopping.set()
        await self.task
        assert self.pipeline.metrics.accounting.is_balanced
        assert self.pipeline.metrics.accounting.held == 0
        assert self.pipeline.slots.in_flight == 0
        assert len(self.pipeline.leases) == 0


class SlowLedger(FakeAcceptanceStore):
    """Take as many seconds for each user as is said."""

    def __init__(self, seconds_by_user: Callable[[str], float]) -> None:
        super().__init__(policy())
        self.seconds_by_user = seconds_by_user

    async def record(
        self, acceptance: Acceptance, *, received_at: datetime | None = None
    ) -> RecordResult:
        self.seconds = self.seconds_by_user(acceptance.user_id)
        return await super().record(acceptance, received_at=received_at)


async def published(world: World, **changes: Any) -> AUPRepository:
    """Give the real repository of a world, with the first policy in it."""
    repository = world.repository(**changes)
    await repository.publish_policy(policy())
    return repository


def now() -> float:
    """Give the seconds of the virtual clock."""
    return asyncio.get_running_loop().time()


def messages(world: World) -> list[StoredMessage]:
    """Give what the source holds, in any state."""
    return list(world.sqs.queue(SOURCE).messages.values())


def show_again(world: World) -> None:
    """Let SQS hand out once more what is held already, as it may."""
    source = world.sqs.queue(SOURCE)
    for message in messages(world):
        source._show(message)
