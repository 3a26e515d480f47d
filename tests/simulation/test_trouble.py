"""Play one trouble at a time: what must hold is known to the number."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.simulation.faults import FaultRates
from tests.simulation.processes import ReplayProcess, WorkerProcess
from tests.simulation.sqs_messages import State
from tests.simulation.story import drained, played, sent, started, stopped
from tests.simulation.traffic import LATE, TEXTS, Kind, Sending, drawn, plain_ones, sha256
from tests.simulation.virtual_clock import START, WallClock, abandon, simulated
from tests.simulation.world import World
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import OutcomeKind
from worker.pipeline.lease import Lease, Leases

WRITE_APIS = pytest.mark.parametrize("write_api", ["batch", "put"])


async def _stopped_after_draining(world: World) -> None:
    worker = started(world)
    await drained(world)
    await stopped(worker)


def _shown_again(world: World) -> None:
    """Let SQS hand out what is held, as it may."""
    world.sqs_faults.happened["duplicate_delivery"] += 1
    for message in list(world.audit.source.messages.values()):
        world.audit.source._show(message)


@WRITE_APIS
def test_a_load_without_any_trouble_is_handed_out_once_each(write_api: str) -> None:
    async def story(world: World) -> None:
        sent(world, 200)
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 200}
        assert world.audit.source.handed_out_count == 200

    played(story, write_api=write_api)


@WRITE_APIS
def test_a_write_whose_answer_is_lost_counts_as_recorded_by_us(write_api: str) -> None:
    async def story(world: World) -> None:
        sent(world, 40)
        world.table_faults.rates = FaultRates(lost_answer=0.4)
        worker = started(world)
        await drained(world, 600)  # a lookup may be lost again and again
        kinds = await stopped(worker)
        assert world.table_faults.happened["lost_answer"] > 3
        assert kinds.keys() <= {OutcomeKind.RECORDED, OutcomeKind.DUPLICATE}
        assert sum(kinds.values()) == world.audit.source.handed_out_count == 40
        assert len(world.audit.store) == 40

    played(story, write_api=write_api)


@WRITE_APIS
def test_the_same_event_sent_again_and_again_is_recorded_once(write_api: str) -> None:
    async def story(world: World) -> None:
        for sending in plain_ones(10, START.isoformat()):
            world.send(replace(sending, copies=5))
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.DUPLICATE: 40}

    played(story, write_api=write_api)


@WRITE_APIS
def test_of_two_equal_messages_of_one_millisecond_one_is_the_duplicate(write_api: str) -> None:
    async def story(world: World) -> None:
        for sending in plain_ones(10, START.isoformat()):
            # Without an address there is no salt that tells their items apart.
            stated = {name: each for name, each in sending.stated.items() if name != "ip"}
            world.send(Sending(Kind.DOUBLED, json.dumps(stated), stated, copies=2))
        worker = started(world)
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 10, OutcomeKind.DUPLICATE: 10}

    played(story, write_api=write_api)


def test_a_message_whose_handle_went_stale_is_deleted_by_its_next_receiver() -> None:
    async def story(world: World) -> None:
        sent(world, 1)
        world.table_faults.break_down("dynamodb")
        worker = started(world)
        await asyncio.sleep(5)
        [message] = world.audit.source.messages.values()
        # Another receiver, such as a person at the console, takes it from under the worker.
        _shown_again(world)
        world.audit.source.take(1, 90)
        world.table_faults.mend("dynamodb")
        await asyncio.sleep(30)
        assert message.state is State.IN_FLIGHT
        assert len(world.audit.store) == 1
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 1, OutcomeKind.DUPLICATE: 1}

    played(story)


def test_a_second_delivery_while_the_first_is_held_records_nothing_new() -> None:
    async def story(world: World) -> None:
        sent(world, 5)
        world.table_faults.break_down("dynamodb")
        worker = started(world)
        await asyncio.sleep(2)
        _shown_again(world)
        await asyncio.sleep(20)
        world.table_faults.mend("dynamodb")
        await drained(world)
        assert worker.pipeline is not None
        assert len(world.audit.store) == 5
        kinds = await stopped(worker)
        assert sum(kinds.values()) == world.audit.source.handed_out_count

    played(story)


def test_what_must_die_and_was_handed_out_twice_is_dead_lettered_once() -> None:
    async def story(world: World) -> None:
        for number, sending in enumerate(plain_ones(10, START.isoformat())):
            stated = {**sending.stated, "content_sha256": sha256(f"another text {number}")}
            world.send(Sending(Kind.WRONG_HASH, json.dumps(stated), stated))
        world.table_faults.break_down("dynamodb")
        worker = started(world)
        await asyncio.sleep(0.3)  # before the breaker opens
        _shown_again(world)
        await asyncio.sleep(20)
        assert world.audit.source.handed_out_count > 10
        world.table_faults.mend("dynamodb")
        await drained(world)
        assert len(world.audit.dead_letters.messages) == 10
        await stopped(worker)

    played(story)


@WRITE_APIS
def test_a_table_that_throttles_for_ten_minutes_sends_no_message_to_the_dead_letters(
    write_api: str,
) -> None:
    async def story(world: World) -> None:
        sent(world, 100)
        world.table_faults.rates = FaultRates(throttled=0.9, failed_statement=0.8)
        workers = [started(world, f"worker-{number}") for number in range(2)]
        await asyncio.sleep(600)
        world.table_faults.stop()
        await drained(world, 600)
        assert not world.audit.dead_letters.messages
        assert max(m.receive_count for m in world.audit.originals.values()) <= 3
        for worker in workers:
            await stopped(worker)
        assert len(world.audit.store) == 100

    played(story, write_api=write_api)


@WRITE_APIS
def test_a_table_that_is_down_for_an_hour_costs_no_message_and_few_receives(write_api: str) -> None:
    async def story(world: World) -> None:
        sent(world, 100)
        world.table_faults.break_down("dynamodb")
        workers = [started(world, f"worker-{number}") for number in range(2)]
        await asyncio.sleep(3600)
        assert max(m.receive_count for m in world.audit.originals.values()) < 8
        assert world.audit.source.handed_out_count < 300
        world.table_faults.mend("dynamodb")
        await drained(world, 600)
        assert not world.audit.dead_letters.messages
        for worker in workers:
            await stopped(worker)
        assert len(world.audit.store) == 100

    played(story, write_api=write_api)


def test_what_is_held_for_long_is_never_handed_out_to_somebody_else() -> None:
    async def story(world: World) -> None:
        sent(world, 25)
        world.table_faults.break_down("dynamodb")
        worker = started(world)
        await asyncio.sleep(5)
        other = started(world, "other")
        await asyncio.sleep(400)
        assert world.audit.source.handed_out_count == 25
        world.table_faults.mend("dynamodb")
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 25}
        assert await stopped(other) == {}

    played(story, slots=60, hold_seconds=600.0)


@simulated
async def test_a_lease_that_is_stopped_as_its_extension_falls_due_is_not_extended() -> None:
    settled: set[str] = set()

    async def extend(changes: Sequence[tuple[ReceivedMessage, float]]) -> list[None]:
        assert not settled & {message.message_id for message, _ in changes}
        return [None] * len(changes)

    async def settle(lease: Lease) -> None:
        await asyncio.sleep(30)  # half of the lease: the moment of the extension
        assert await lease.stop()
        settled.add(lease.message.message_id)

    leases = Leases(extend, 60)
    running = asyncio.create_task(leases.run())
    held = [leases.hold(ReceivedMessage(f"m-{n}", f"h-{n}", "", START, START)) for n in range(3)]
    await asyncio.gather(settle(held[1]), asyncio.sleep(31))
    assert not running.done()
    assert len(leases) == 2
    await abandon(running)


def test_only_the_entries_that_failed_are_deleted_again() -> None:
    async def story(world: World) -> None:
        sent(world, 100)
        world.sqs_faults.rates = FaultRates(failed_entry=0.15)
        worker = started(world)
        await asyncio.sleep(20)
        assert world.sqs_faults.happened["failed_entry"] > 10
        assert not world.audit.source.messages
        assert await stopped(worker) == {OutcomeKind.RECORDED: 100}
        assert world.audit.source.handed_out_count == 100

    played(story)


def test_a_dead_letter_that_fails_in_its_batch_is_not_deleted_from_the_source() -> None:
    async def story(world: World) -> None:
        for number in range(30):
            world.send(Sending(Kind.MALFORMED, f"nonsense {number}"))
        world.sqs_faults.rates = FaultRates(failed_entry=0.5)
        worker = started(world)
        await asyncio.sleep(10)
        world.audit.check()
        await drained(world, 600)
        assert len(world.audit.bodies(world.audit.dead_letters)) == 30
        world.sqs_faults.stop()
        await stopped(worker)

    played(story)


@WRITE_APIS
@pytest.mark.parametrize("moment", range(1, 60, 4))
def test_a_kill_in_mid_batch_loses_nothing_and_doubles_nothing(write_api: str, moment: int) -> None:
    async def story(world: World) -> None:
        sent(world, 60)
        first = started(world, "first")
        await world.audit.after(60 + moment, 5)
        await first.kill()
        world.audit.check()
        second = started(world, "second")
        await drained(world)
        kinds = await stopped(second)
        assert len(world.audit.store) == 60
        assert kinds.get(OutcomeKind.RECORDED, 0) + first.recorded <= 60

    played(story, write_api=write_api, slots=40)


def test_a_stop_while_the_table_throttles_hands_everything_back_at_once() -> None:
    async def story(world: World) -> None:
        sent(world, 30)
        world.table_faults.rates = FaultRates(throttled=1.0)
        worker = started(world)
        await asyncio.sleep(30)
        assert await stopped(worker) == {OutcomeKind.RETURNED: 30}
        assert not world.audit.dead_letters.messages
        assert int(world.audit.source.counts()["ApproximateNumberOfMessages"]) == 30

    played(story)


@pytest.mark.parametrize("moment", range(1, 500, 40))
def test_a_stop_under_full_load_leaves_nothing_stranded(moment: int) -> None:
    async def story(world: World) -> None:
        for sending in drawn(world.sqs_faults.random, 300, START.isoformat()):
            world.send(sending)
        worker = started(world)
        await world.audit.after(moment, 5)
        await stopped(worker)

    played(story, poll_concurrency=4, slots=100)


def test_a_drained_queue_leaves_nothing_that_is_recorded_and_undeleted() -> None:
    async def story(world: World) -> None:
        sent(world, 300)
        worker = started(world)
        await world.until(lambda: len(world.audit.store) == 300, 60, "all are recorded")
        await stopped(worker)
        assert not world.audit.source.messages

    played(story, slots=200, poll_concurrency=4)


def test_a_policy_published_late_is_waited_for_and_a_replay_mends_what_gave_up() -> None:
    async def story(world: World) -> None:
        for number in range(10):
            stated = {
                "event_id": f"e-{number}",
                "user_id": f"u-{number}",
                "policy_id": "acceptable-use",
                "version": LATE,
                "accepted_at": START.isoformat(),
                "content_sha256": sha256(TEXTS[LATE]),
            }
            world.send(Sending(Kind.LATE_POLICY, json.dumps(stated), stated))
        worker = started(world)
        await asyncio.sleep(30)
        assert not world.audit.dead_letters.messages
        await drained(world, 600)
        assert len(world.audit.dead_letters.messages) == 10
        world.publish_late()
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        await drained(world)
        assert not world.audit.dead_letters.messages
        assert len(world.audit.store) == 10
        await stopped(worker)

    played(story)


def test_a_replay_beside_a_quick_worker_ends_although_the_letters_die_again() -> None:
    async def story(world: World) -> None:
        for number in range(25):
            world.send(Sending(Kind.MALFORMED, f"nonsense {number}"))
        worker = started(world)
        await drained(world)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await asyncio.wait([replay.task], timeout=60)
        assert replay.figures is not None
        assert replay.figures.replayed == 25
        await drained(world)
        assert len(world.audit.dead_letters.messages) == 25
        await stopped(worker)

    played(story)


def test_a_replay_whose_sending_fails_deletes_no_dead_letter() -> None:
    async def story(world: World) -> None:
        for number in range(30):
            world.send(Sending(Kind.MALFORMED, f"nonsense {number}"))
        await _stopped_after_draining(world)
        world.sqs_faults.rates = FaultRates(failed_entry=0.8)
        replay = ReplayProcess(world, "replay")
        replay.start()
        await replay.task
        assert replay.figures is not None
        assert replay.figures.failed > 0
        world.audit.check()

    played(story)


@pytest.mark.parametrize("skew_seconds", [-250, 250])
def test_a_tolerated_skew_of_the_clock_costs_no_good_message(skew_seconds: int) -> None:
    async def story(world: World) -> None:
        sent(world, 20)
        worker = WorkerProcess(world, "worker", WallClock(timedelta(seconds=skew_seconds)))
        worker.start()
        await drained(world)
        assert await stopped(worker) == {OutcomeKind.RECORDED: 20}

    played(story)
