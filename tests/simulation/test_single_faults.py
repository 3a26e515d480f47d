"""Tests with one fault at a time and exact expectations."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.processes import ReplayProcess, WorkerProcess
from tests.simulation.scenario_steps import (
    run_scenario,
    send_valid,
    start_worker,
    stop_worker,
    wait_until_empty,
)
from tests.simulation.sqs_messages import State
from tests.simulation.traffic import LATE, TEXTS, Kind, SentMessage, drawn, plain_ones, sha256
from tests.simulation.virtual_clock import START, WallClock, abandon, simulated
from tests.simulation.world import World
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import OutcomeKind
from worker.pipeline.lease import Lease, Leases

WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


async def _stopped_after_draining(world: World) -> None:
    worker = start_worker(world)
    await wait_until_empty(world)
    await stop_worker(worker)


def _shown_again(world: World) -> None:
    """Make messages in flight visible again, as SQS sometimes does."""
    world.sqs_faults.injected["duplicate_receive"] += 1
    for message in list(world.audit.source.messages.values()):
        world.audit.source._show(message)


@WRITE_APIS
def test_messages_are_received_once_without_faults(write_api: str) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 200)
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 200}
        assert world.audit.source.received_count == 200

    run_scenario(scenario, write_api=write_api)


@WRITE_APIS
def test_write_with_a_lost_response_counts_as_recorded(write_api: str) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 40)
        world.table_faults.rates = FaultRates(lost_response=0.4)
        worker = start_worker(world)
        await wait_until_empty(world, 600)  # a lookup may be lost repeatedly
        kinds = await stop_worker(worker)
        assert world.table_faults.injected["lost_response"] > 3
        assert kinds.keys() <= {OutcomeKind.RECORDED, OutcomeKind.DUPLICATE}
        assert sum(kinds.values()) == world.audit.source.received_count == 40
        assert len(world.audit.store) == 40

    run_scenario(scenario, write_api=write_api)


@WRITE_APIS
def test_event_sent_several_times_is_recorded_once(write_api: str) -> None:
    async def scenario(world: World) -> None:
        for sent_message in plain_ones(10, START.isoformat()):
            world.send(replace(sent_message, copies=5))
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.DUPLICATE: 40}

    run_scenario(scenario, write_api=write_api)


@WRITE_APIS
def test_one_of_two_equal_messages_of_one_millisecond_is_a_duplicate(write_api: str) -> None:
    async def scenario(world: World) -> None:
        for sent_message in plain_ones(10, START.isoformat()):
            # Without an IP address there is no salt that distinguishes their items.
            stated = {name: each for name, each in sent_message.stated.items() if name != "ip"}
            world.send(SentMessage(Kind.DOUBLED, json.dumps(stated), stated, copies=2))
        worker = start_worker(world)
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.DUPLICATE: 10}

    run_scenario(scenario, write_api=write_api)


def test_message_with_a_stale_handle_is_deleted_by_its_next_receiver() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 1)
        world.table_faults.break_down("dynamodb")
        worker = start_worker(world)
        await asyncio.sleep(5)
        [message] = world.audit.source.messages.values()
        # Another receiver, such as a user of the console, receives it meanwhile.
        _shown_again(world)
        world.audit.source.receive(1, 90)
        world.table_faults.recover("dynamodb")
        await asyncio.sleep(30)
        assert message.state is State.IN_FLIGHT
        assert len(world.audit.store) == 1
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 1, OutcomeKind.DUPLICATE: 1}

    run_scenario(scenario)


def test_second_receive_of_a_held_message_records_nothing_new() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 5)
        world.table_faults.break_down("dynamodb")
        worker = start_worker(world)
        await asyncio.sleep(2)
        _shown_again(world)
        await asyncio.sleep(20)
        world.table_faults.recover("dynamodb")
        await wait_until_empty(world)
        assert worker.pipeline is not None
        assert len(world.audit.store) == 5
        kinds = await stop_worker(worker)
        assert sum(kinds.values()) == world.audit.source.received_count

    run_scenario(scenario)


def test_invalid_message_received_twice_is_dead_lettered_once() -> None:
    async def scenario(world: World) -> None:
        for number, sent_message in enumerate(plain_ones(10, START.isoformat())):
            stated = {**sent_message.stated, "content_sha256": sha256(f"another text {number}")}
            world.send(SentMessage(Kind.WRONG_HASH, json.dumps(stated), stated))
        world.table_faults.break_down("dynamodb")
        worker = start_worker(world)
        await asyncio.sleep(0.3)  # before the breaker opens
        _shown_again(world)
        await asyncio.sleep(20)
        assert world.audit.source.received_count > 10
        world.table_faults.recover("dynamodb")
        await wait_until_empty(world)
        assert len(world.audit.dead_letters.messages) == 10
        await stop_worker(worker)

    run_scenario(scenario)


@WRITE_APIS
def test_ten_minutes_of_throttling_dead_letter_no_message(
    write_api: str,
) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 100)
        world.table_faults.rates = FaultRates(throttled=0.9, failed_statement=0.8)
        workers = [start_worker(world, f"worker-{number}") for number in range(2)]
        await asyncio.sleep(600)
        world.table_faults.stop()
        await wait_until_empty(world, 600)
        assert not world.audit.dead_letters.messages
        assert max(m.receive_count for m in world.audit.originals.values()) <= 3
        for worker in workers:
            await stop_worker(worker)
        assert len(world.audit.store) == 100

    run_scenario(scenario, write_api=write_api)


@WRITE_APIS
def test_table_outage_of_an_hour_costs_no_message_and_few_receives(write_api: str) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 100)
        world.table_faults.break_down("dynamodb")
        workers = [start_worker(world, f"worker-{number}") for number in range(2)]
        await asyncio.sleep(3600)
        assert max(m.receive_count for m in world.audit.originals.values()) < 8
        assert world.audit.source.received_count < 300
        world.table_faults.recover("dynamodb")
        await wait_until_empty(world, 600)
        assert not world.audit.dead_letters.messages
        for worker in workers:
            await stop_worker(worker)
        assert len(world.audit.store) == 100

    run_scenario(scenario, write_api=write_api)


def test_message_held_for_long_is_not_received_by_another_worker() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 25)
        world.table_faults.break_down("dynamodb")
        worker = start_worker(world)
        await asyncio.sleep(5)
        other = start_worker(world, "other")
        await asyncio.sleep(400)
        assert world.audit.source.received_count == 25
        world.table_faults.recover("dynamodb")
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 25}
        assert await stop_worker(other) == {}

    run_scenario(scenario, slots=60, hold_seconds=600.0)


@simulated
async def test_lease_stopped_when_its_extension_is_due_is_not_extended() -> None:
    settled: set[str] = set()

    async def extend(changes: Sequence[tuple[ReceivedMessage, float]]) -> list[None]:
        assert not settled & {message.message_id for message, _ in changes}
        return [None] * len(changes)

    async def settle(lease: Lease) -> None:
        await asyncio.sleep(30)  # half of the lease, when the extension is due
        assert await lease.stop()
        settled.add(lease.message.message_id)

    leases = Leases(extend, 60)
    running = asyncio.create_task(leases.run())
    held = [leases.hold(ReceivedMessage(f"m-{n}", f"h-{n}", "")) for n in range(3)]
    await asyncio.gather(settle(held[1]), asyncio.sleep(31))
    assert not running.done()
    assert len(leases) == 2
    await abandon(running)


def test_only_failed_delete_entries_are_retried() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 100)
        world.sqs_faults.rates = FaultRates(failed_entry=0.15)
        worker = start_worker(world)
        await asyncio.sleep(20)
        assert world.sqs_faults.injected["failed_entry"] > 10
        assert not world.audit.source.messages
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 100}
        assert world.audit.source.received_count == 100

    run_scenario(scenario)


def test_message_is_not_deleted_from_the_source_if_its_dead_letter_fails() -> None:
    async def scenario(world: World) -> None:
        for number in range(30):
            world.send(SentMessage(Kind.MALFORMED, f"nonsense {number}"))
        world.sqs_faults.rates = FaultRates(failed_entry=0.5)
        worker = start_worker(world)
        await asyncio.sleep(10)
        world.audit.check()
        await wait_until_empty(world, 600)
        assert len(world.audit.bodies(world.audit.dead_letters)) == 30
        world.sqs_faults.stop()
        await stop_worker(worker)

    run_scenario(scenario)


@WRITE_APIS
@pytest.mark.parametrize("moment", range(1, 60, 4))
def test_kill_during_a_batch_loses_and_duplicates_nothing(write_api: str, moment: int) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 60)
        first = start_worker(world, "first")
        await world.audit.wait_for_events(60 + moment, 5)
        await first.kill()
        world.audit.check()
        second = start_worker(world, "second")
        await wait_until_empty(world)
        kinds = await stop_worker(second)
        assert len(world.audit.store) == 60
        assert kinds.get(OutcomeKind.RECORDED, 0) + first.recorded <= 60

    run_scenario(scenario, write_api=write_api, slots=40)


def test_stop_during_throttling_returns_all_messages_at_once() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 30)
        world.table_faults.rates = FaultRates(throttled=1.0)
        worker = start_worker(world)
        await asyncio.sleep(30)
        assert await stop_worker(worker) == {OutcomeKind.RETURNED: 30}
        assert not world.audit.dead_letters.messages
        assert int(world.audit.source.counts()["ApproximateNumberOfMessages"]) == 30

    run_scenario(scenario)


@pytest.mark.parametrize("moment", range(1, 500, 40))
def test_stop_under_full_load_leaves_no_message_in_flight(moment: int) -> None:
    async def scenario(world: World) -> None:
        for sent_message in drawn(world.sqs_faults.random, 300, START.isoformat()):
            world.send(sent_message)
        worker = start_worker(world)
        await world.audit.wait_for_events(moment, 5)
        await stop_worker(worker)

    run_scenario(scenario, poll_concurrency=4, slots=100)


def test_all_recorded_messages_are_deleted_on_stop() -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 300)
        worker = start_worker(world)
        await world.until(lambda: len(world.audit.store) == 300, 60, "all are recorded")
        await stop_worker(worker)
        assert not world.audit.source.messages

    run_scenario(scenario, slots=200, poll_concurrency=4)


def test_late_policy_is_waited_for_and_a_replay_records_what_was_dead_lettered() -> None:
    async def scenario(world: World) -> None:
        for number in range(10):
            stated = {
                "event_id": f"e-{number}",
                "user_id": f"u-{number}",
                "policy_id": "acceptable-use",
                "version": LATE,
                "accepted_at": START.isoformat(),
                "content_sha256": sha256(TEXTS[LATE]),
            }
            world.send(SentMessage(Kind.LATE_POLICY, json.dumps(stated), stated))
        worker = start_worker(world)
        await asyncio.sleep(30)
        assert not world.audit.dead_letters.messages
        await wait_until_empty(world, 600)
        assert len(world.audit.dead_letters.messages) == 10
        world.publish_late()
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        await wait_until_empty(world)
        assert not world.audit.dead_letters.messages
        assert len(world.audit.store) == 10
        await stop_worker(worker)

    run_scenario(scenario)


def test_replay_ends_while_a_worker_dead_letters_the_messages_again() -> None:
    async def scenario(world: World) -> None:
        for number in range(25):
            world.send(SentMessage(Kind.MALFORMED, f"nonsense {number}"))
        worker = start_worker(world)
        await wait_until_empty(world)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await asyncio.wait([replay.task], timeout=60)
        assert replay.figures is not None
        assert replay.figures.replayed == 25
        await wait_until_empty(world)
        assert len(world.audit.dead_letters.messages) == 25
        await stop_worker(worker)

    run_scenario(scenario)


def test_replay_with_failed_sends_deletes_no_dead_letter() -> None:
    async def scenario(world: World) -> None:
        for number in range(30):
            world.send(SentMessage(Kind.MALFORMED, f"nonsense {number}"))
        await _stopped_after_draining(world)
        world.sqs_faults.rates = FaultRates(failed_entry=0.8)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        assert replay.figures is not None
        assert replay.figures.failed > 0
        world.audit.check()

    run_scenario(scenario)


@pytest.mark.parametrize("skew_seconds", [-250, 250])
def test_tolerated_clock_skew_costs_no_valid_message(skew_seconds: int) -> None:
    async def scenario(world: World) -> None:
        send_valid(world, 20)
        worker = WorkerProcess(world, "worker", WallClock(timedelta(seconds=skew_seconds)))
        worker.start()
        await wait_until_empty(world)
        assert await stop_worker(worker) == {OutcomeKind.RECORDED: 20}

    run_scenario(scenario)
