"""Sum of the snapshots of several processes."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

from tests.unit.fakes import settings
from tests.unit.monitoring import FakePipeline, FakeWatchdog, status_of
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome
from worker.errors import Reason
from worker.observability.emf import EMF
from worker.observability.prometheus import exposition
from worker.processes.snapshot import Snapshot
from worker.processes.status import ProcessesStatus


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def snapshot(received: int = 0, *outcomes: Outcome, **changes: Any) -> Snapshot:
    """Return a snapshot of a pipeline that received messages, after its way through the channel."""
    pipeline = FakePipeline()
    for _ in range(received):
        pipeline.metrics.accounting.open()
    for outcome in outcomes:
        pipeline.metrics.accounting.close(outcome)
        pipeline.metrics.settling.add(0.01)
    pipeline.metrics.calls["ReceiveMessage"] += 1
    pipeline.metrics.events["polls"] += 1
    pipeline.health.polled_at = asyncio.get_running_loop().time()
    found = Snapshot.of(status_of(pipeline))
    restored = Snapshot.from_json(json.loads(json.dumps(found.to_json())))
    assert restored == found
    return replace(restored, **changes)


def processes(count: int = 2, **changes: Any) -> tuple[ProcessesStatus, Clock]:
    clock = Clock()
    chosen = settings(**changes)
    status = ProcessesStatus(chosen, asyncio.Event(), FakeWatchdog(), count, clock)
    for number in range(1, count + 1):
        status.started(number, 100 + number)
    return status, clock


async def test_counts_are_summed() -> None:
    status, _ = processes()
    dead = Outcome.dead_lettered(Reason.INVALID, "")
    status.update(1, snapshot(5, RECORDED, RECORDED, dead, write_concurrency=3))
    status.update(2, snapshot(2, DUPLICATE))
    accounting = status.metrics.accounting
    assert accounting.figures() == {
        "received": 7, "recorded": 2, "duplicates": 1, "dead_lettered": 1, "returned": 0,
        "abandoned": 0, "held": 3, "balanced": True, "dead_by_reason": {"invalid": 1},
    }  # fmt: skip
    assert status.metrics.calls == {"ReceiveMessage": 2}
    assert len(status.metrics.settling) == 4
    assert status.slots.free == 20
    assert status.write_concurrency() == 10
    assert [each.held for each in status.processes] == [2, 1]


async def test_counts_of_a_killed_process_stay_and_what_it_held_is_abandoned() -> None:
    status, _ = processes()
    status.update(1, snapshot(5, RECORDED, RECORDED))
    status.update(2, snapshot(2, RECORDED))
    assert status.ended(1, abandons=True) == 3
    accounting = status.metrics.accounting
    assert (accounting.received, accounting.abandoned, accounting.held) == (7, 3, 1)
    assert accounting.is_balanced
    status.started(1, 201)
    status.update(1, snapshot(1))
    accounting = status.metrics.accounting
    assert (accounting.received, accounting.abandoned, accounting.held) == (8, 3, 2)
    assert accounting.is_balanced
    assert status.metrics.calls["ReceiveMessage"] == 3
    assert [each.starts for each in status.processes] == [2, 1]


async def test_messages_of_a_process_that_was_stopped_at_once_stay_held() -> None:
    status, _ = processes()
    status.update(1, snapshot(5, RECORDED))
    assert status.ended(1, abandons=False) == 4
    accounting = status.metrics.accounting
    assert (accounting.abandoned, accounting.held, accounting.is_balanced) == (0, 4, True)


async def test_service_is_ready_and_started_when_all_processes_are() -> None:
    status, _ = processes()
    assert status.why_not_ready() == status.why_not_started() == ["starting"]
    status.update(1, snapshot())
    assert status.why_not_ready() == status.why_not_started() == ["process 2: starting"]
    status.update(2, snapshot(is_started=False, not_ready=["no poll has completed yet"]))
    assert status.why_not_started() == ["process 2: no poll has completed yet"]
    status.update(2, snapshot())
    assert status.why_not_ready() == status.why_not_started() == []
    status.ended(2, abandons=True)
    status.started(2, 202)
    assert status.why_not_ready() == ["process 2: restarting"]
    status.update(2, snapshot(is_started=False, not_ready=["denied"]))
    assert status.why_not_started() == []
    assert status.why_not_ready() == ["process 2: denied"]
    status.update(1, snapshot(not_ready=["denied"]))
    assert status.why_not_ready() == ["denied"]
    status.stopping.set()
    assert status.why_not_ready() == ["draining"]
    assert status.why_not_started() == []


async def test_service_is_live_only_while_every_process_responds() -> None:
    status, clock = processes(stall_seconds=10)
    status.update(1, snapshot())
    status.update(2, snapshot(not_live=["no poll completed"]))
    assert status.why_not_live() == ["process 2: no poll completed"]
    clock.now += 6
    status.update(2, snapshot())
    assert status.why_not_live() == ["process 1: no status for 6 s"]
    assert status.why_not_ready() == ["process 1: no status for 6 s"]
    status.ended(1, abandons=True)
    assert status.why_not_live() == []


async def test_age_of_the_last_poll_and_lag_are_those_of_the_worst_process() -> None:
    status, clock = processes()
    assert [status.poll_age_seconds] == [None]
    status.update(1, snapshot(poll_age_seconds=1.0, loop_lag_seconds=0.5))
    clock.now += 2
    status.update(2, snapshot(poll_age_seconds=1.5, loop_lag_seconds=0.1))
    assert status.poll_age_seconds == 3.0
    assert status.loop_lag_seconds == 0.5


async def test_metrics_and_emf_documents_describe_all_processes() -> None:
    status, _ = processes()
    status.update(1, snapshot(5, RECORDED))
    status.update(2, snapshot(1))
    emf = EMF(status)
    status.ended(1, abandons=True)
    render = exposition(status)
    text = render().decode()
    for line in (
        'aup_process_ready{process="1"} 0.0', 'aup_process_ready{process="2"} 1.0',
        'aup_process_messages_held{process="2"} 1.0', 'aup_process_starts_total{process="1"} 1.0',
        "aup_messages_abandoned_total 4.0", "aup_messages_received_total 6.0",
        "aup_messages_held 1.0", "aup_books_balanced 1.0",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert 'process_resident_memory_bytes{process="parent"}' in text
    document = emf.document("summary")
    assert (document["abandoned"], document["Held"], document["BooksBalanced"]) == (4, 1, 1)
