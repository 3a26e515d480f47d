"""The service's own parts run inside a test, with message accounting checked at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from worker.aws.access import CallObserver, Probe
from worker.aws.sqs import Queue, open_queues
from worker.domain.acceptance import Acceptance
from worker.domain.origin import Origin
from worker.domain.outcome import OutcomeKind
from worker.domain.policy import Policy, PolicyText
from worker.operations.doctor.preflight import check
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.pipeline.record import AcceptanceStore
from worker.repository import AUPRepository, RecordResult
from worker.runtime.retry import retry
from worker.service import START_RETRIES
from worker.settings import Settings

_TIMEOUT_SECONDS = 40.0
_PAUSE_SECONDS = 0.02


async def until(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float = _TIMEOUT_SECONDS
) -> None:
    """Wait until a condition holds."""
    async with asyncio.timeout(seconds):
        while True:
            holds = condition()
            if holds is True or (holds is not False and await holds):
                return
            await asyncio.sleep(_PAUSE_SECONDS)


def ended(pipeline: Pipeline) -> int:
    """Return how many messages are recorded, duplicates or dead-lettered."""
    kinds = pipeline.metrics.accounting.by_kind
    return (
        kinds[OutcomeKind.RECORDED]
        + kinds[OutcomeKind.DUPLICATE]
        + kinds[OutcomeKind.DEAD_LETTERED]
    )


def assert_balance(pipeline: Pipeline) -> None:
    """Check that accounting balances and nothing is in flight after the end."""
    accounting = pipeline.metrics.accounting
    assert accounting.is_balanced
    assert accounting.held == 0
    assert accounting.received == accounting.by_kind.total()
    assert pipeline.slots.in_flight == 0
    assert len(pipeline.leases) == 0


class HoldingStore:
    """Store whose writes wait until `released` is set."""

    def __init__(self, store: AcceptanceStore) -> None:
        self._store = store
        self.released = asyncio.Event()
        self.waiting = 0

    def observe(self, observer: CallObserver) -> None:
        self._store.observe(observer)

    def probes(self) -> Sequence[Probe]:
        return self._store.probes()

    def known_policy(self, policy_id: str, version: str) -> Policy | None:
        return self._store.known_policy(policy_id, version)

    async def policy(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        return await self._store.policy(policy_id, version, recheck=recheck)

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin
    ) -> RecordResult:
        self.waiting += 1
        try:
            await self.released.wait()
        finally:
            self.waiting -= 1
        return await self._store.record(acceptance, text, origin)


@asynccontextmanager
async def working(
    settings: Settings, around: Callable[[AUPRepository], AcceptanceStore] | None = None
) -> AsyncIterator[Pipeline]:
    """Run a worker for the duration of a block; then drain it and check its accounting.

    Args:
        settings: Settings of queues and tables.
        around: Wraps the repository for the pipeline.
    """
    async with opened(settings, around) as pipeline:
        running = asyncio.create_task(pipeline.run())
        try:
            yield pipeline
        finally:
            pipeline.stopping.set()
            await running
        assert_balance(pipeline)


@asynccontextmanager
async def opened(
    settings: Settings, around: Callable[[AUPRepository], AcceptanceStore] | None = None
) -> AsyncIterator[Pipeline]:
    """Open everything that a pipeline needs, with the retries of the service."""
    repository = AUPRepository(settings.aws)
    metrics = Metrics(calls=repository.calls)
    deadline = asyncio.get_running_loop().time() + _TIMEOUT_SECONDS
    async with repository, AsyncExitStack() as stack:

        async def queues() -> tuple[Queue, Queue]:
            return await stack.enter_async_context(open_queues(settings, calls=metrics.calls))

        source, dead_letters = await retry(START_RETRIES, queues, until=deadline)
        fitted = await retry(
            START_RETRIES, check, settings, source, dead_letters, repository, until=deadline
        )
        store: Any = around(repository) if around else repository
        yield assemble((source, dead_letters), store, fitted, metrics=metrics)
