"""Tests of the pipeline: its assembly, run and drain."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import Denial
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import (
    SOURCE,
    FakeAcceptanceStore,
    FakeQueue,
    clock,
    open_world,
    policy,
    settings,
)
from tests.unit.pipeline.running import RunningPipeline, bodies, now, start
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, GaveUpError
from worker.pipeline.assembly import assemble
from worker.pipeline.lease import Leases
from worker.pipeline.metrics import Metrics
from worker.pipeline.slots import Slot
from worker.repository import RecordResult


@simulated
async def test_pipeline_uses_the_given_metrics_and_stop_request() -> None:
    metrics, stopping = Metrics(), asyncio.Event()
    pipeline = assemble(
        (FakeQueue(), FakeQueue()),
        FakeAcceptanceStore(policy()),
        settings(),
        metrics=metrics,
        stopping=stopping,
        now=clock,
    )
    assert pipeline.metrics is metrics
    assert pipeline.stopping is stopping


@simulated
async def test_limits_come_from_the_settings() -> None:
    pipeline = assemble(
        (FakeQueue(), FakeQueue()),
        FakeAcceptanceStore(policy()),
        settings(slots=40, held_mib=8, visibility_timeout_seconds=90),
        metrics=Metrics(),
    )
    assert (pipeline.slots.limit, pipeline.slots.limit_bytes) == (40, 8 * 1_048_576)
    assert pipeline.leases.seconds == 90


@simulated
async def test_store_reports_its_calls_to_the_access_watch() -> None:
    store = FakeAcceptanceStore(policy())
    pipeline = assemble((FakeQueue(), FakeQueue()), store, settings(), metrics=Metrics())
    assert store.observer is pipeline.state.access


@simulated
async def test_received_message_is_accounted_for_and_leased() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10.0
    running = RunningPipeline(await open_world(), store)
    await asyncio.sleep(5)
    await running.world.push(*bodies(1))
    await asyncio.sleep(5)
    assert (running.figures["received"], running.figures["held"]) == (1, 1)
    assert (len(running.pipeline.leases), running.pipeline.slots.filled) == (1, 1)
    assert running.pipeline.state.sqs_clock.uncertainty == ""
    await running.stop()


@simulated
async def test_drain_completes_messages_in_flight() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10.0
    running = RunningPipeline(await open_world(), store)
    await running.world.push(*bodies(20))
    await asyncio.sleep(5)
    assert running.figures["held"] == 20
    await running.stop()
    assert running.figures["recorded"] == 20
    assert running.world.bodies(SOURCE) == []


@simulated
async def test_messages_of_the_last_poll_are_returned_immediately() -> None:
    running = await start()
    await asyncio.sleep(5)  # a poll is under way, for 15 s more
    running.pipeline.stopping.set()
    await running.world.push(*bodies(7))
    await running.task
    running.audit()
    assert running.figures["returned"] == 7
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (7, 0)
    assert running.world.records() == []


@simulated
async def test_messages_without_an_outcome_are_returned_after_the_drain_timeout() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10_000.0
    running = RunningPipeline(
        await open_world(), store, drain_timeout_seconds=25.0, stop_timeout_seconds=30.0
    )
    await running.world.push(*bodies(20))
    await asyncio.sleep(100)
    stopped_at = now()
    await running.stop()
    assert 25 <= now() - stopped_at < 26
    assert running.figures["returned"] == 20
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (20, 0)


@simulated
async def test_messages_being_settled_at_the_drain_timeout_are_settled() -> None:
    world = await open_world()
    delete = world.source.delete

    async def delete_slowly(messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        await asyncio.sleep(10)
        return await delete(messages)

    world.source.delete = delete_slowly  # type: ignore[method-assign]
    running = RunningPipeline(
        world, FakeAcceptanceStore(policy()), drain_timeout_seconds=2.0, stop_timeout_seconds=30.0
    )
    await world.push(*bodies(5))
    await asyncio.sleep(1)
    assert running.figures["held"] == 5
    await running.stop()
    assert running.figures["recorded"] == 5
    assert running.pipeline.metrics.events["deleted"] == 5
    assert world.bodies(SOURCE) == []


@simulated
async def test_leases_are_extended_during_the_drain() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 70.0
    running = RunningPipeline(
        await open_world(),
        store,
        drain_timeout_seconds=100.0,
        stop_timeout_seconds=110.0,
        visibility_timeout_seconds=40,
    )
    await running.world.push(*bodies(10))
    await asyncio.sleep(1)
    await running.stop()
    assert running.figures["recorded"] == 10
    assert running.pipeline.metrics.events["lease_lost"] == 0
    assert running.pipeline.metrics.events["lease_extended"] >= 10
    for stored in running.world.sqs.queue(SOURCE).messages.values():
        pytest.fail(f"{stored} is left")


@simulated
async def test_unresponsive_queue_does_not_delay_the_stop_beyond_its_timeout() -> None:
    running = await start(drain_timeout_seconds=25.0, stop_timeout_seconds=30.0)
    await running.world.push(*bodies(20))
    running.world.faults.break_down("sqs")
    await asyncio.sleep(1)
    running.world.faults.recover("sqs")
    await running.until(received=20)
    running.world.faults.break_down("sqs")
    stopped_at = now()
    running.pipeline.stopping.set()
    await running.task
    assert now() - stopped_at < 30
    assert running.figures["balanced"]
    assert running.pipeline.slots.in_flight == 0


@simulated
async def test_throttled_table_holds_messages_without_using_up_receives() -> None:
    running = await start(hold_seconds=3600.0, visibility_timeout_seconds=40)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    source = running.world.sqs.queue(SOURCE)
    await running.world.push(*bodies(10))
    await asyncio.sleep(30)  # polls under way are not cancelled
    await running.world.push(*bodies(50)[10:])
    await asyncio.sleep(60)
    assert source.received_count == 10, "receiving goes on while the table fails"
    assert running.figures["held"] == 10
    running.world.dynamodb.spoil_call = lambda _: None
    await running.until(recorded=50)
    assert source.received_count == 50
    await running.stop()


@simulated
async def test_throttled_table_does_not_delay_the_stop() -> None:
    running = await start()
    running.world.dynamodb.spoil_item = lambda _: "ThrottlingError"
    await running.world.push(*bodies(20))
    await asyncio.sleep(60)
    stopped_at = now()
    await running.stop()
    assert now() - stopped_at < 25
    assert running.figures["returned"] == 20
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (20, 0)


async def _given_up(running: RunningPipeline) -> str:
    with pytest.raises(GaveUpError) as caught:
        async with asyncio.timeout(3600):
            await running.task
    running.audit()
    return str(caught.value)


@simulated
async def test_long_denial_by_the_table_ends_the_run_without_loss() -> None:
    running = await start(give_up_seconds=300.0)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "AccessDeniedException")
    await running.world.push(*bodies(5))
    assert "AccessDeniedException" in await _given_up(running)
    assert 300 < now() < 400
    assert sorted(running.world.bodies(SOURCE)) == sorted(bodies(5))
    assert (await running.world.source.state()).visible == 5


@simulated
async def test_denied_lease_extension_pauses_receiving() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 1000.0
    running = RunningPipeline(await open_world(), store, visibility_timeout_seconds=40)
    denial = Denial(
        code="AccessDeniedException", operations=frozenset({"ChangeMessageVisibilityBatch"})
    )
    running.world.faults.deny("sqs", denial)
    await running.world.push(*bodies(5))
    await asyncio.sleep(30)
    assert any("AccessDenied" in why for why in running.pipeline.health.why_not_ready())
    await asyncio.sleep(20)  # the poll that was under way has ended
    received = running.figures["received"]
    await running.world.push(*bodies(50)[5:])
    await asyncio.sleep(100)
    assert running.figures["received"] == received
    assert "AccessDenied" in await _given_up(running)
    assert 320 < now() < 500


@simulated
async def test_unsupported_write_api_ends_the_run() -> None:
    running = await start(give_up_seconds=300.0)
    error = dynamodb_error("Batch", "UnknownOperationException")
    running.world.dynamodb.spoil_call = lambda _: error
    await running.world.push(*bodies(5))
    assert "AUP_WRITE_API=put" in await _given_up(running)
    assert 300 < now() < 400
    assert sorted(running.world.bodies(SOURCE)) == sorted(bodies(5))


@simulated
async def test_missing_queue_ends_the_run() -> None:
    running = await start(give_up_seconds=60.0)
    await asyncio.sleep(10)
    running.world.sqs.queues.clear()
    assert "QueueDoesNotExist" in await _given_up(running) or now() > 60


@simulated
async def test_failed_stage_drains_and_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: Leases) -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError

    monkeypatch.setattr(Leases, "run", fail)
    running = await start()
    await running.world.push(*bodies(20))
    with capture_logs() as logs:
        assert await _given_up(running) == "stage leases failed: ZeroDivisionError"
    assert [each["stage"] for each in logs if each["log_level"] == "error"] == ["leases"]
    assert running.figures["recorded"] == 20


class _HangingStore(FakeAcceptanceStore):
    """Store whose writes never return."""

    async def record(self, *_: Any, **__: Any) -> RecordResult:
        await asyncio.Event().wait()
        raise AssertionError


@simulated
async def test_lack_of_progress_ends_the_run_without_loss() -> None:
    world = await open_world()
    running = RunningPipeline(world, _HangingStore(policy()), slots=10)
    await world.push(*bodies(20))
    assert "no poll completed and no message was attempted for" in await _given_up(running)
    assert 100 < now() < 300
    assert sorted(world.bodies(SOURCE)) == sorted(bodies(20))


@simulated
async def test_idle_queue_or_long_outage_does_not_end_the_run() -> None:
    running = await start(hold_seconds=1200.0, slots=4)
    await asyncio.sleep(900)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "InternalServerError")
    await running.world.push(*bodies(8))
    await asyncio.sleep(900)
    assert not running.task.done()
    running.world.dynamodb.spoil_call = lambda _: None
    await running.until(recorded=8)
    await running.stop()


@simulated
async def test_leaked_slot_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    release = Slot.release

    def leak(slot: Slot) -> None:
        if running.figures["recorded"] != 7:
            release(slot)

    monkeypatch.setattr(Slot, "release", leak)
    running = await start()
    await running.world.push(*bodies(20))
    with pytest.raises(GaveUpError, match="1 slots filled, 0 messages held"):
        await running.task


@simulated
async def test_service_is_not_ready_while_access_is_denied() -> None:
    running = await start(give_up_seconds=3000.0)
    await running.world.push(*bodies(20))
    await running.until(recorded=20)
    assert running.pipeline.health.why_not_ready() == []
    with capture_logs() as logs:
        denied = dynamodb_error("Batch", "AccessDeniedException")
        running.world.dynamodb.spoil_call = lambda _: denied
        await running.world.push(*bodies(25)[20:])
        await asyncio.sleep(600)
        assert any(
            "AccessDeniedException" in why for why in running.pipeline.health.why_not_ready()
        )
        running.world.dynamodb.spoil_call = lambda _: None
        await running.until(recorded=25)
        await asyncio.sleep(20)
    assert running.pipeline.health.why_not_ready() == []
    events = [each["event"] for each in logs]
    assert events.count("not ready") == events.count("ready again") == 1
    assert 8 <= events.count("AWS call failed") <= 11, "once a minute"
    await running.stop()


@simulated
async def test_receive_rate_follows_a_throttled_table() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    running = RunningPipeline(world, repository, slots=60)
    source = running.world.sqs.queue(SOURCE)
    throttling = iter(lambda: None if now() % 10 < 0.5 else "ThrottlingError", 0)
    running.world.dynamodb.spoil_item = lambda _: next(throttling)
    await running.world.push(*bodies(600))
    least = running.pipeline.slots.limit
    for _ in range(200):
        await asyncio.sleep(0.5)
        assert source.received_count <= running.figures["recorded"] + 60
        least = min(least, repository.write_concurrency)
    assert least == 1
    assert 100 < running.figures["recorded"] < 600
    running.world.dynamodb.spoil_item = lambda _: None
    await running.until(recorded=600)
    assert source.received_count == 600, "no receive was used up"
    assert repository.write_concurrency > 4
    await running.stop()


@simulated
async def test_cancellation_ends_immediately_and_messages_become_visible_again() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10_000.0
    running = RunningPipeline(await open_world(), store)
    await running.world.push(*bodies(20))
    await asyncio.sleep(100)
    stopped_at = now()
    running.task.cancel()
    await asyncio.wait([running.task])
    assert running.task.cancelled()
    assert now() - stopped_at < 1
    assert running.pipeline.slots.in_flight == 0
    assert running.figures["balanced"]
    assert running.figures["held"] == 20
    await asyncio.sleep(121)
    assert (await running.world.source.state()).visible == 20


@pytest.mark.parametrize("milliseconds", [*range(0, 200, 7), 20_020, 20_040])
def test_stop_at_any_moment_loses_no_message(milliseconds: int) -> None:
    async def main() -> None:
        running = await start(slots=40)
        given = bodies(60) + ["{"] * 3
        await running.world.push(*given)
        await asyncio.sleep(milliseconds / 1000)
        await running.stop()
        state = await running.world.source.state()
        assert state.in_flight == 0
        figures = running.figures
        kept = figures["recorded"] + figures["dead_lettered"] + state.visible
        assert kept == len(given)
        assert len(running.world.records()) == figures["recorded"]

    run(main)


@pytest.mark.parametrize("seed", range(12))
def test_cancellation_at_any_moment_loses_no_message(seed: int) -> None:
    async def main() -> None:
        world = await open_world(seed=seed)
        running = await start(world, slots=40)
        await world.push(*bodies(60))
        await asyncio.sleep(world.faults.random.random() * 0.3)
        running.task.cancel()
        with suppress(asyncio.CancelledError):
            await running.task
        assert running.figures["balanced"]
        await asyncio.sleep(1000)
        events = {item["event_id"] for item in world.records()}
        events |= {json.loads(each)["event_id"] for each in world.bodies(SOURCE)}
        assert len(events) == 60

    run(main)
