"""The real pipeline on a simulated AWS and the virtual clock, checked when it stops."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from tests.simulation.sqs_messages import StoredMessage
from tests.simulation.virtual_clock import never_busy
from tests.unit.fakes import SOURCE, FakeAcceptanceStore, World, clock, policy, settings
from worker.aws.sqs import Queue
from worker.domain.acceptance import Acceptance
from worker.domain.origin import Origin
from worker.domain.outcome import OutcomeKind
from worker.domain.policy import PolicyText
from worker.pipeline.assembly import assemble
from worker.pipeline.metrics import Metrics
from worker.pipeline.record import AcceptanceStore
from worker.repository import AUPRepository, RecordResult


class RunningPipeline:
    """A running pipeline.

    Args:
        world: Simulated AWS.
        store: Repository or a fake.
        source: Queue to use instead of the world's own.
        changes: Settings that differ from the defaults.
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
            busy=never_busy,
        )
        self.task = asyncio.create_task(self.pipeline.run())

    @property
    def kinds(self) -> Counter[OutcomeKind]:
        """Number of messages per outcome."""
        return self.pipeline.metrics.accounting.by_kind

    @property
    def events(self) -> Counter[str]:
        """Number of other events by name."""
        return self.pipeline.metrics.events

    async def until(self, holds: Callable[[], bool], within_seconds: float, what: str) -> None:
        """Wait until a condition holds.

        Args:
            holds: Condition.
            within_seconds: Deadline in virtual time.
            what: Description of the condition, for the error message.

        Raises:
            AssertionError: The deadline has passed.
            AUPError: The pipeline failed with this error.
        """
        deadline = now() + within_seconds
        while not holds():
            if self.task.done():
                self.task.result()
            assert now() < deadline, f"not within {within_seconds:g} s: {what}"
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """Drain, and check that the accounting balances and nothing is held."""
        self.pipeline.stopping.set()
        await self.task
        assert self.pipeline.metrics.accounting.is_balanced
        assert self.pipeline.metrics.accounting.held == 0
        assert self.pipeline.slots.in_flight == 0
        assert len(self.pipeline.leases) == 0


class SlowStore(FakeAcceptanceStore):
    """Fake store whose writes take a given time per user."""

    def __init__(self, seconds_by_user: Callable[[str], float]) -> None:
        super().__init__(policy())
        self.seconds_by_user = seconds_by_user

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin
    ) -> RecordResult:
        self.seconds = self.seconds_by_user(acceptance.user_id)
        return await super().record(acceptance, text, origin)


async def published(world: World, **changes: Any) -> AUPRepository:
    """Return the real repository of a world with the first policy published."""
    repository = world.repository(**changes)
    await repository.publish_policy(policy())
    return repository


def now() -> float:
    """Return the virtual clock's time in seconds."""
    return asyncio.get_running_loop().time()


def messages(world: World) -> list[StoredMessage]:
    """Return the messages of the source queue in any state."""
    return list(world.sqs.queue(SOURCE).messages.values())


def make_visible_again(world: World) -> None:
    """Make messages in flight visible again, as SQS sometimes does."""
    source = world.sqs.queue(SOURCE)
    for message in messages(world):
        source._show(message)
