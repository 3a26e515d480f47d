"""State that the entries of a batch stand and fall alone."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from tests.pitfalls.carrying import Carrying, SlowLedger, messages, published
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
    """Let every third entry of an operation's batches fail, the first time that it is sent.

    Attributes:
        sent: how often each entry was sent.
        failed: those that failed once.
    """

    def __init__(self, world: World, operation: str, patch: pytest.MonkeyPatch) -> None:
        self.sent: Counter[str] = Counter()
        self.failed: set[str] = set()
        self._call = getattr(world.sqs, operation)
        patch.setattr(world.sqs, operation, self)

    async def __call__(
        self,
        *,
        QueueUrl: str,  # noqa: N803 - the arguments bear AWS's names
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
        answer = await self._call(QueueUrl=QueueUrl, Entries=good) if good else {}
        return {**answer, "Failed": failed}

    def check(self) -> None:
        """Check that what failed was sent once more, and nothing else."""
        assert len(self.sent) == COUNT
        assert len(self.failed) == COUNT // 3
        again = {name for name, count in self.sent.items() if count > 1}
        assert again == self.failed
        assert set(self.sent.values()) == {1, 2}


async def _carried(world: World, store: FakeAcceptanceStore, **changes: Any) -> Carrying:
    await world.push(*(body(number) for number in range(COUNT)))
    return Carrying(world, store, **changes)


async def _deletes(world: World, patch: pytest.MonkeyPatch) -> None:
    failing = _FailingEntries(world, "delete_message_batch", patch)
    carrying = await _carried(world, FakeAcceptanceStore(policy()))
    await carrying.until(lambda: not messages(world), 30, "all are deleted")
    await carrying.stop()
    failing.check()


async def _hand_backs(world: World, patch: pytest.MonkeyPatch) -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [AWSRejectedError("no")] * COUNT
    failing = _FailingEntries(world, "change_message_visibility_batch", patch)
    carrying = await _carried(world, store, backoff_base_seconds=0.001)
    # Before the leases end: what nobody handed back would come later.
    await carrying.until(
        lambda: carrying.kinds[OutcomeKind.RECORDED] == COUNT, 60, "all came again"
    )
    await carrying.stop()
    failing.check()


async def _extensions(world: World, patch: pytest.MonkeyPatch) -> None:
    failing = _FailingEntries(world, "change_message_visibility_batch", patch)
    store = SlowLedger(lambda _: 70.0)
    carrying = await _carried(world, store, visibility_timeout_seconds=100)
    await carrying.until(
        lambda: carrying.kinds[OutcomeKind.RECORDED] == COUNT, 80, "all are recorded"
    )
    await carrying.stop()
    failing.check()
    assert carrying.events["lease_lost"] == 0


async def _letters(world: World, patch: pytest.MonkeyPatch) -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [RecordResult.CONFLICT] * COUNT
    await world.push(*(body(number) for number in range(COUNT)))
    failing = _FailingEntries(world, "send_message_batch", patch)
    carrying = Carrying(world, store)
    await carrying.until(
        lambda: carrying.kinds[OutcomeKind.DEAD_LETTERED] == COUNT, 30, "all are dead"
    )
    await carrying.stop()
    failing.check()
    assert sorted(world.bodies(DEAD_LETTERS)) == sorted(body(number) for number in range(COUNT))


@pytest.mark.parametrize("story", [_deletes, _hand_backs, _extensions, _letters])
def test_of_every_batch_the_entries_that_failed_are_sent_again_and_no_others(
    story: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def told() -> None:
        world = await open_world()
        await story(world, monkeypatch)
        assert world.bodies(SOURCE) == []
        assert world.sqs.queue(SOURCE).handed_out_count in {COUNT, 2 * COUNT}

    run(told)


@simulated
async def test_what_comes_twice_in_one_batch_fails_no_batch() -> None:
    world = await open_world(seed=5)
    repository = await published(world)
    sent = [body(number) for number in range(20)]
    await world.push(*sent, *sent, *sent)
    world.faults.rates = FaultRates(duplicate_delivery=0.6)
    carrying = Carrying(world, repository)
    await carrying.until(
        lambda: carrying.pipeline.metrics.accounting.received > 120, 60, "many are handed out twice"
    )
    world.faults.stop()
    await carrying.until(lambda: not messages(world), 60, "all are deleted")
    await asyncio.sleep(1)
    await carrying.stop()
    assert carrying.kinds[OutcomeKind.RECORDED] == 20
    assert carrying.kinds.keys() <= {OutcomeKind.RECORDED, OutcomeKind.DUPLICATE}
    assert carrying.events["delete_failed"] == 0
    for batch in world.dynamodb.batches:
        keys = [(item["user_id"], item["policy_version"]) for item in batch]
        assert len(set(keys)) == len(keys)
