"""Tests of processing one message from its receipt to its settlement."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import FaultRates
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import (
    ABSENT,
    DEAD_LETTERS,
    IP,
    SESSION_ID,
    SOURCE,
    USER_AGENT,
    FakeAcceptanceStore,
    FakeQueue,
    body,
    message,
    open_world,
    policy,
    received_message,
    service_state,
)
from tests.unit.pipeline.running import RunningPipeline, bodies, dead_letter_reasons, start
from worker.domain.dead_letter import read
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import RECORDED, Outcome
from worker.pipeline.lease import Lease, Leases
from worker.pipeline.process import InFlight, Process
from worker.pipeline.slots import Slot, Slots


@simulated
async def test_valid_messages_are_recorded_once_and_deleted() -> None:
    running = await start()
    await running.world.push(*bodies(300))
    await running.until(recorded=300)
    await running.stop()
    assert running.figures["received"] == 300
    assert len(running.world.records()) == 300
    # Nothing is both recorded and undeleted after a drain without faults.
    assert running.world.bodies(SOURCE) == []
    assert running.world.bodies(DEAD_LETTERS) == []
    running.world.dynamodb.verify()


MIXED = {
    "recorded": [body(0), body(1), json.dumps({"detail-type": "x", "detail": message(2)})],
    "duplicate": [body(1)],
    "malformed": ["{", "[]"],
    "invalid": [body(3, user_id=ABSENT)],
    "content_mismatch": [body(4, content_sha256="0" * 64)],
    "unknown_policy": [body(5, version="2099-01")],
}


@simulated
async def test_each_kind_of_message_has_its_outcome_and_reason() -> None:
    running = await start(unknown_policy_seconds=5, backoff_base_seconds=0.5)
    await running.world.push(*(each for kind in MIXED.values() for each in kind))
    await running.until(recorded=3, duplicates=1, dead_lettered=5)
    await running.world.push(body(0, channel="forged"))
    await running.until(dead_lettered=6)
    await running.stop()
    expected = {
        "malformed": 2, "invalid": 1, "content_mismatch": 1, "unknown_policy": 1, "conflict": 1,
    }  # fmt: skip
    assert running.figures["dead_by_reason"] == expected
    assert await dead_letter_reasons(running.world) == expected
    assert running.world.bodies(SOURCE) == []
    assert len(running.world.records()) == 3


@simulated
async def test_calls_are_batched_under_load() -> None:
    running = await start()
    await running.world.push(*bodies(1000))
    running.world.calls.clear()
    await running.until(recorded=1000)
    await running.stop()
    queue_calls = running.world.calls.total()
    table_calls = len(running.world.dynamodb.batches)
    assert queue_calls < 350
    assert table_calls < 200
    # The version, and the absence of a text in another language.
    assert running.world.dynamodb.reads["aup-policies"] == 2


@simulated
async def test_unexpected_failure_affects_only_its_own_message() -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [ZeroDivisionError("ours")]
    running = RunningPipeline(await open_world(), store, max_attempts=1)
    with capture_logs() as logs:
        await running.world.push(*bodies(5))
        await running.until(recorded=4, dead_lettered=1)
    await running.stop()
    assert running.figures["dead_by_reason"] == {"exhausted": 1}
    (error,) = [each for each in logs if each["log_level"] == "error"]
    assert error["event"] == "unexpected failure"
    assert "message_id" in error
    letters = await running.world.dead_letters.receive(
        1, wait_seconds=0, visibility_timeout_seconds=30
    )
    death = read(letters[0])
    assert death is not None
    assert death.detail == "failed in 1 receives: unexpected: ZeroDivisionError"


@simulated
async def test_failed_settling_ends_neither_the_pipeline_nor_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = await start(visibility_timeout_seconds=40)
    delete = running.pipeline._settler._delete
    failures = [ZeroDivisionError()]

    async def fail_once(*given: Any) -> None:
        if failures:
            raise failures.pop()
        await delete(*given)

    monkeypatch.setattr(running.pipeline._settler, "_delete", fail_once)
    await running.world.push(body())
    await running.until(returned=1, held=0)
    await asyncio.sleep(100)
    assert running.figures["duplicates"] == 1, "its visibility ended, it came again"
    assert running.world.bodies(SOURCE) == []
    await running.stop()


# All but what nothing here can meet: no read is eventually consistent, no redrive policy is set.
KINDS = {each.name for each in fields(FaultRates)} - {"stale_read", "redrive_resets_count"}


@pytest.mark.parametrize("seed", range(6))
def test_accounting_balances_under_faults_of_every_kind(seed: int) -> None:
    async def main() -> None:
        world = await open_world(seed=seed)
        repository = world.repository()
        await repository.publish_policy(policy())
        await world.push(*bodies(300), *["{"] * 10)
        # Before the pipeline begins: it needs less than a second for all of them.
        world.faults.rates = FaultRates(**dict.fromkeys(KINDS, 0.1))
        running = RunningPipeline(
            world, repository, unknown_policy_seconds=5, backoff_base_seconds=0.5
        )
        await asyncio.sleep(300)
        assert running.figures["balanced"]
        assert world.faults.injected.keys() == KINDS
        world.faults.stop()
        async with asyncio.timeout(5000):
            while world.bodies(SOURCE):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(1)
        await running.stop()
        assert {item["event_id"] for item in world.records()} == {
            f"event-{number}" for number in range(300)
        }
        assert world.bodies(DEAD_LETTERS).count("{") >= 10
        world.dynamodb.verify()

    run(main)


@simulated
async def test_log_lines_contain_no_body_and_no_evidence() -> None:
    structlog.reset_defaults()
    with capture_logs() as logs:
        running = await start(max_attempts=2, backoff_base_seconds=0.5, unknown_policy_seconds=1)
        mixed = [each for kind in MIXED.values() for each in kind]
        await running.world.push(*mixed, body(0, channel="forged"), body(7, ip=[IP] * 9))
        await running.until(dead_lettered=7, held=0)
        running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "Nonsense")
        await running.world.push(*bodies(30)[10:])
        await asyncio.sleep(100)
        await running.stop()
    text = str(logs)
    assert "settled" in text
    assert "drain started" in text
    for secret in (IP, USER_AGENT, SESSION_ID, "clickwrap", "forged", '{"event_id'):
        assert secret not in text


@simulated
async def test_per_message_log_lines_have_debug_level() -> None:
    with capture_logs() as logs:
        running = await start()
        await running.world.push(*bodies(50))
        await running.until(recorded=50)
        await running.stop()
    levels = Counter(each["log_level"] for each in logs if "message_id" in each)
    assert levels == {"debug": 50}
    assert len(logs) - 50 < 10


@simulated
async def test_pipeline_accepts_any_acceptance_store() -> None:
    store = FakeAcceptanceStore()
    running = RunningPipeline(await open_world(), store, unknown_policy_seconds=0.1, max_attempts=1)
    await running.world.push(body())
    await running.until(dead_lettered=1)
    await running.stop()


class _Tasks:
    """Tasks in flight that end when the test sets an event."""

    def __init__(self) -> None:
        self.state = service_state()
        self.in_flight = InFlight(self.state)
        self.slot = Slot(Slots(1), 0)
        self.leases = Leases(FakeQueue().change_visibility, 120)
        self.decided = asyncio.Event()
        self.settled = asyncio.Event()
        self.cancelled = 0

    def start(self, number: int = 0, process: Process | None = None) -> None:
        lease = self.leases.hold(received_message(number))
        self.in_flight.start(process or self.process, lease, self.slot)

    async def process(self, _: ReceivedMessage, lease: Lease, __: Slot) -> Outcome:
        try:
            await self.decided.wait()
            lease.is_decided = True
            await self.settled.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return RECORDED


@simulated
async def test_wait_ends_with_the_last_task_or_the_timeout() -> None:
    tasks = _Tasks()
    now = asyncio.get_running_loop().time
    await tasks.in_flight.wait(5)
    assert now() < 1
    for number in range(3):
        tasks.start(number)
    await tasks.in_flight.wait(5)
    assert (round(now()), len(tasks.in_flight)) == (5, 3)
    asyncio.get_running_loop().call_later(2, tasks.decided.set)
    asyncio.get_running_loop().call_later(4, tasks.settled.set)
    await tasks.in_flight.wait(5)
    assert (round(now()), len(tasks.in_flight)) == (9, 0)


@simulated
async def test_only_tasks_without_an_outcome_are_cancelled() -> None:
    tasks = _Tasks()
    tasks.start(0)
    tasks.decided.set()
    await asyncio.sleep(0.01)
    tasks.decided.clear()
    tasks.start(1)
    await asyncio.sleep(0.01)
    tasks.in_flight.cancel_undecided()
    assert tasks.in_flight.out_of_time
    await asyncio.sleep(0.01)
    assert (tasks.cancelled, len(tasks.in_flight)) == (1, 1)
    tasks.settled.set()
    await tasks.in_flight.wait(1)
    assert len(tasks.in_flight) == 0


@simulated
async def test_cancel_ends_all_tasks_also_those_that_have_not_begun() -> None:
    tasks = _Tasks()
    tasks.start(0)
    await asyncio.sleep(0.01)
    tasks.start(1)
    await tasks.in_flight.cancel()
    assert tasks.cancelled == 1
    assert len(asyncio.all_tasks()) == 1


@simulated
async def test_task_that_fails_makes_the_service_give_up_and_the_others_go_on() -> None:
    async def fail(*_: object) -> Outcome:
        raise ZeroDivisionError("division")

    tasks = _Tasks()
    tasks.start(0)
    tasks.start(1, fail)
    with capture_logs() as logs:
        await asyncio.sleep(0.01)
    assert tasks.state.stopping.is_set()
    assert "processing failed: " in str(tasks.state.failure)
    assert [each["event"] for each in logs] == ["processing failed"]
    assert (tasks.cancelled, len(tasks.in_flight)) == (0, 1)
    await tasks.in_flight.cancel()
