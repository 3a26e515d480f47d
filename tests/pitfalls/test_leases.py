"""Tests that leases hold while messages are processed, and that lost leases are noticed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import pytest

from tests.pitfalls.running import (
    RunningPipeline,
    SlowStore,
    make_visible_again,
    messages,
    now,
    published,
)
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import SOURCE, FakeAcceptanceStore, body, open_world, policy
from worker.aws.access import CallObserver, Probe
from worker.aws.sqs import Queue
from worker.domain.acceptance import Acceptance
from worker.domain.message import ReceivedMessage
from worker.domain.origin import Origin
from worker.domain.outcome import OutcomeKind
from worker.domain.policy import Policy, PolicyText
from worker.errors import AWSError, AWSRejectedError
from worker.pipeline.record import AcceptanceStore
from worker.repository import RecordResult

LEASE_SECONDS: Final = 40


class _OneAtATime(FakeAcceptanceStore):
    """Fake store that records one acceptance at a time."""

    def __init__(self, seconds: float) -> None:
        super().__init__(policy())
        self.seconds = seconds
        self._turn = asyncio.Semaphore(1)

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin
    ) -> RecordResult:
        async with self._turn:
            return await super().record(acceptance, text, origin)


@simulated
async def test_slow_and_waiting_messages_are_processed_once() -> None:
    world, store = await open_world(), _OneAtATime(seconds=10.0)
    await world.push(*(body(number) for number in range(60)))
    running = RunningPipeline(world, store, slots=100, visibility_timeout_seconds=LEASE_SECONDS)
    await running.until(lambda: running.kinds[OutcomeKind.RECORDED] == 60, 700, "all are recorded")
    assert now() > 10 * LEASE_SECONDS, "no message waited for long"
    await running.stop()
    assert world.sqs.queue(SOURCE).received_count == 60
    assert len(store.recorded) == 60
    assert messages(world) == []


class _ObservedQueue(Queue):
    """Queue that notes extensions requested during or after settlement.

    Attributes:
        violations: Descriptions of such extensions.
        extended_at: Times of extensions.
    """

    def __init__(self, queue: Queue) -> None:
        super().__init__(queue._client, queue.url)
        self.violations: list[str] = []
        self.extended_at: list[float] = []
        self._extending: Counter[str] = Counter()
        self._settled: set[str] = set()

    def _settle(self, messages: Sequence[ReceivedMessage]) -> None:
        for handle in (message.receipt_handle for message in messages):
            self._settled.add(handle)
            if self._extending[handle]:
                self.violations.append(f"{handle} was settled during its extension")

    async def delete(self, messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        self._settle(messages)
        return await super().delete(messages)

    async def change_visibility(
        self, changes: Sequence[tuple[ReceivedMessage, float]]
    ) -> list[AWSError | None]:
        self._settle([message for message, seconds in changes if seconds != LEASE_SECONDS])
        extended = [
            message.receipt_handle for message, seconds in changes if seconds == LEASE_SECONDS
        ]
        late = self._settled.intersection(extended)
        self.violations += [f"{handle} was extended after it was settled" for handle in late]
        if extended:
            self.extended_at.append(now())
        self._extending.update(extended)
        try:
            return await super().change_visibility(changes)
        finally:
            self._extending.subtract(extended)


def _around_an_extension(user: str) -> float:
    """Return about half a lease; two leases for the last messages."""
    number = int(user[2:])
    return LEASE_SECONDS / 2 - 3 + 0.1 * number if number < 140 else 2 * LEASE_SECONDS


@pytest.mark.parametrize("kind", [OutcomeKind.RECORDED, OutcomeKind.RETURNED])
def test_leases_are_extended_only_before_settlement_and_through_the_drain(
    kind: OutcomeKind,
) -> None:
    async def scenario() -> None:
        world = await open_world()
        store = SlowStore(_around_an_extension)
        if kind is OutcomeKind.RETURNED:
            store.results = [AWSRejectedError("no")] * 160
        await world.push(*(body(number) for number in range(160)))
        world.faults.durations = replace(
            world.faults.durations, min_latency_seconds=0.2, max_latency_seconds=1.0
        )
        source = _ObservedQueue(world.source)
        running = RunningPipeline(
            world,
            store,
            source=source,
            slots=200,
            visibility_timeout_seconds=LEASE_SECONDS,
            backoff_base_seconds=1000.0,
            backoff_cap_seconds=1000.0,
            drain_timeout_seconds=300.0,
            stop_timeout_seconds=310.0,
        )
        await running.until(
            lambda: running.pipeline.metrics.accounting.received == 160, 30, "all are held"
        )
        stopped_at = now()
        await running.stop()
        assert source.violations == []
        assert [at for at in source.extended_at if at > stopped_at + LEASE_SECONDS / 2]
        assert running.kinds == {kind: 160}
        assert running.events["lease_lost"] == 0
        assert world.sqs.queue(SOURCE).received_count == 160

    run(scenario)


class _DelayedStore:
    """Store that passes each acceptance to the real repository after a delay.

    Args:
        store: The repository.
        seconds: Delay of the first acceptance, of the second, and so on; zero afterwards.
    """

    def __init__(self, store: AcceptanceStore, *seconds: float) -> None:
        self._store = store
        self._seconds = list(seconds)

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
        await asyncio.sleep(self._seconds.pop(0) if self._seconds else 0.0)
        return await self._store.record(acceptance, text, origin)


@pytest.mark.parametrize("receiver", ["the same worker", "another worker"])
def test_delete_by_an_old_handle_does_not_count_and_the_newest_handle_deletes(
    receiver: str,
) -> None:
    async def scenario() -> None:
        world = await open_world()
        repository = await published(world)
        await world.push(body())
        again_by_same = receiver == "the same worker"
        slots = 20 if again_by_same else 1
        first = RunningPipeline(
            world, _DelayedStore(repository, 10.0, 20.0), slots=slots, wait_seconds=1
        )
        await first.until(lambda: first.pipeline.metrics.accounting.held == 1, 5, "it is held")
        make_visible_again(world)
        second = first if again_by_same else RunningPipeline(world, _DelayedStore(repository, 20.0))
        await second.until(
            lambda: world.sqs.queue(SOURCE).received_count == 2, 5, "it is received again"
        )
        await first.until(lambda: first.kinds[OutcomeKind.RECORDED] == 1, 15, "it is recorded")
        assert len(messages(world)) == 1, "an old handle deletes nothing"
        # Long before its visibility timeout ends: no third receive was needed.
        await second.until(lambda: not messages(world), 30, "the newest handle deletes it")
        await second.until(lambda: second.kinds[OutcomeKind.DUPLICATE] == 1, 5, "a duplicate")
        assert len(world.records()) == 1
        assert world.sqs.queue(SOURCE).received_count == 2
        for running in {first, second}:
            await running.stop()

    run(scenario)
