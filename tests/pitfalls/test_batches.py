"""Tests that each entry of a batch succeeds or fails on its own."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.pitfalls.running import RunningPipeline, SlowStore, messages, published
from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import (
    DEAD_LETTERS,
    SOURCE,
    FakeAcceptanceStore,
    World,
    body,
    open_world,
    policy,
)
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSRejectedError
from worker.repository import RecordResult

COUNT: Final = 30


class _FailingEntries:
    """Client method that fails every third batch entry the first time it is sent.

    Attributes:
        sent: Number of times each entry was sent.
        failed: Entries that failed once.
    """

    def __init__(self, world: World, operation: str, patch: pytest.MonkeyPatch) -> None:
        self.sent: Counter[str] = Counter()
        self.failed: set[str] = set()
        self._call = getattr(world.sqs, operation)
        patch.setattr(world.sqs, operation, self)

    async def __call__(
        self,
        *,
        QueueUrl: str,  # noqa: N803 - AWS's parameter names
        Entries: Sequence[Mapping[str, Any]],  # noqa: N803 - the same
    ) -> dict[str, Any]:
        good, failed = [], []
        for entry in Entries:
            name = str(entry.get("ReceiptHandle") or entry["MessageBody"])
            self.sent[name] += 1
            if self.sent[name] == 1 and len(self.sent) % 3 == 0:
                self.failed.add(name)
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
            else:
                good.append(entry)
        response = await self._call(QueueUrl=QueueUrl, Entries=good) if good else {}
        return {**response, "Failed": failed}

    def check(self) -> None:
        """Check that only failed entries were sent again, each once."""
        assert len(self.sent) == COUNT
        assert len(self.failed) == COUNT // 3
        again = {name for name, count in self.sent.items() if count > 1}
        assert again == self.failed
        assert set(self.sent.values()) == {1, 2}


async def _started(world: World, store: FakeAcceptanceStore, **changes: Any) -> RunningPipeline:
    await world.push(*(body(number) for number in range(COUNT)))
    return RunningPipeline(world, store, **changes)


async def _deletes(world: World, patch: pytest.MonkeyPatch) -> None:
    failing = _FailingEntries(world, "delete_message_batch", patch)
    running = await _started(world, FakeAcceptanceStore(policy()))
    await running.until(lambda: not messages(world), 30, "all are deleted")
    await running.stop()
    failing.check()


async def _returns(world: World, patch: pytest.MonkeyPatch) -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [AWSRejectedError("no")] * COUNT
    failing = _FailingEntries(world, "change_message_visibility_batch", patch)
    running = await _started(world, store, backoff_base_seconds=0.001)
    # Before the leases expire: messages that were not returned would come back later.
    await running.until(
        lambda: running.kinds[OutcomeKind.RECORDED] == COUNT, 60, "all are received again"
    )
    await running.stop()
    failing.check()


async def _extensions(world: World, patch: pytest.MonkeyPatch) -> None:
    failing = _FailingEntries(world, "change_message_visibility_batch", patch)
    store = SlowStore(lambda _: 70.0)
    running = await _started(world, store, visibility_timeout_seconds=100)
    await running.until(
        lambda: running.kinds[OutcomeKind.RECORDED] == COUNT, 80, "all are recorded"
    )
    await running.stop()
    failing.check()
    assert running.events["lease_lost"] == 0


async def _dead_letters(world: World, patch: pytest.MonkeyPatch) -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [RecordResult.CONFLICT] * COUNT
    await world.push(*(body(number) for number in range(COUNT)))
    failing = _FailingEntries(world, "send_message_batch", patch)
    running = RunningPipeline(world, store)
    await running.until(
        lambda: running.kinds[OutcomeKind.DEAD_LETTERED] == COUNT, 30, "all are dead-lettered"
    )
    await running.stop()
    failing.check()
    assert sorted(world.bodies(DEAD_LETTERS)) == sorted(body(number) for number in range(COUNT))


@pytest.mark.parametrize("check", [_deletes, _returns, _extensions, _dead_letters])
def test_only_the_failed_entries_of_a_batch_are_sent_again(
    check: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        world = await open_world()
        await check(world, monkeypatch)
        assert world.bodies(SOURCE) == []
        assert world.sqs.queue(SOURCE).received_count in {COUNT, 2 * COUNT}

    run(scenario)


@simulated
async def test_duplicates_within_a_batch_do_not_fail_it() -> None:
    world = await open_world(seed=5)
    repository = await published(world)
    sent = [body(number) for number in range(20)]
    await world.push(*sent, *sent, *sent)
    world.faults.rates = FaultRates(duplicate_receive=0.6)
    running = RunningPipeline(world, repository)
    await running.until(
        lambda: running.pipeline.metrics.accounting.received > 120, 60, "many are received twice"
    )
    world.faults.stop()
    await running.until(lambda: not messages(world), 60, "all are deleted")
    await asyncio.sleep(1)
    await running.stop()
    assert running.kinds[OutcomeKind.RECORDED] == 20
    assert running.kinds.keys() <= {OutcomeKind.RECORDED, OutcomeKind.DUPLICATE}
    assert running.events["delete_failed"] == 0
    for batch in world.dynamodb.batches:
        keys = [(item["user_id"], item["policy_version"]) for item in batch]
        assert len(set(keys)) == len(keys)
