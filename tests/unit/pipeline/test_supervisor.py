"""State what becomes of messages from the queue to their fate, and how the pipeline drains."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import timedelta
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.faults import Denial, FaultRates
from tests.simulation.virtual_clock import WallClock, run, simulated
from tests.unit.fakes import (
    ABSENT,
    DEAD_LETTERS,
    IP,
    SESSION_ID,
    SOURCE,
    USER_AGENT,
    FakeAcceptanceStore,
    World,
    body,
    clock,
    message,
    open_world,
    policy,
    settings,
)
from worker.domain.dead_letter import read
from worker.domain.message import ReceivedMessage
from worker.errors import AWSError, GaveUpError
from worker.pipeline.assembly import assemble
from worker.pipeline.lease import Leases
from worker.pipeline.record import AcceptanceStore
from worker.pipeline.slots import Slot
from worker.repository import RecordResult


class _Run:
    """A pipeline that runs, and at its end is audited."""

    def __init__(
        self, world: World, store: AcceptanceStore, host: WallClock | None = None, **changes: Any
    ) -> None:
        self.world = world
        now = host.now if host else clock
        self.pipeline = assemble(
            (world.source, world.dead_letters), store, settings(**changes), now=now
        )
        self.task = asyncio.create_task(self.pipeline.run())

    @property
    def figures(self) -> dict[str, Any]:
        return dict(self.pipeline.metrics.accounting.figures())

    async def until(self, **expected: int) -> None:
        async with asyncio.timeout(10_000):
            while not self.figures.items() >= expected.items():  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        self.pipeline.stopping.set()
        await self.task
        self.audit()

    def audit(self) -> None:
        assert self.figures["balanced"]
        assert self.figures["held"] == 0
        assert self.pipeline.slots.in_flight == 0
        assert len(self.pipeline.leases) == 0
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in others if "worker" in str(task.get_coro())]


async def _run(world: World | None = None, **changes: Any) -> _Run:
    world = world or await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    return _Run(world, repository, **changes)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _dead(world: World) -> Counter[str]:
    reasons = Counter[str]()
    while taken := await world.dead_letters.receive(
        10, wait_seconds=0, visibility_timeout_seconds=300
    ):
        for each in taken:
            death = read(each)
            assert death is not None
            reasons[death.reason] += 1
    return reasons


def _bodies(count: int) -> list[str]:
    return [body(number) for number in range(count)]


@simulated
async def test_every_good_message_is_recorded_once_and_deleted() -> None:
    running = await _run()
    await running.world.push(*_bodies(300))
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
async def test_every_kind_of_message_comes_to_its_fate_with_its_reason() -> None:
    running = await _run(unknown_policy_seconds=5, backoff_base_seconds=0.5)
    await running.world.push(*(each for bodies in MIXED.values() for each in bodies))
    await running.until(recorded=3, duplicates=1, dead_lettered=5)
    await running.world.push(body(0, channel="forged"))
    await running.until(dead_lettered=6)
    await running.stop()
    expected = {
        "malformed": 2, "invalid": 1, "content_mismatch": 1, "unknown_policy": 1, "conflict": 1,
    }  # fmt: skip
    assert running.figures["dead_by_reason"] == expected
    assert await _dead(running.world) == expected
    assert running.world.bodies(SOURCE) == []
    assert len(running.world.records()) == 3


CLOCKS = pytest.mark.parametrize("skew_seconds", [-172_800, -600, 0, 600, 172_800])
DATES = pytest.mark.parametrize("date", [None, "", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"])


@CLOCKS
@DATES
@simulated
async def test_a_fresh_acceptance_is_recorded_whatever_this_hosts_clock_says(
    date: str | None, skew_seconds: float
) -> None:
    running = await _run(host=WallClock(timedelta(seconds=skew_seconds)))
    if date is not None:
        running.world.sqs.date = lambda: date
    await asyncio.sleep(100)
    times = [clock() + timedelta(seconds=seconds) for seconds in (-7200, 0, 250)]
    await running.world.push(
        *(body(number, accepted_at=each.isoformat()) for number, each in enumerate(times))
    )
    await running.until(recorded=3)
    assert running.world.bodies(DEAD_LETTERS) == []
    await running.stop()


@CLOCKS
@simulated
async def test_the_future_is_dead_lettered_only_where_both_clocks_agree(
    skew_seconds: float,
) -> None:
    host = WallClock(timedelta(seconds=skew_seconds))
    # So often is more than the attempts: what only a wrong clock keeps is not exhausted.
    running = await _run(host=host, backoff_cap_seconds=60.0, max_attempts=3)
    # Later than SQS allows, and earlier than a fast clock does.
    await running.world.push(body(0, accepted_at=(clock() + timedelta(hours=5)).isoformat()))
    with capture_logs() as logs:
        await asyncio.sleep(630)
    if skew_seconds:
        assert running.figures["dead_lettered"] == running.figures["recorded"] == 0
        assert 10 <= running.pipeline.metrics.events["clock_returns"] <= 12
        assert [each["event"] for each in logs].count("clocks differ") in {10, 11}
        [why] = running.pipeline.health.why_not_ready()
        assert f"clock is {abs(skew_seconds):.0f} s" in why
        host.skew = timedelta()
    await running.until(dead_lettered=1)
    assert running.pipeline.health.why_not_ready() == []
    await running.stop()
    [letter] = await running.world.dead_letters.receive(
        10, wait_seconds=0, visibility_timeout_seconds=300
    )
    death = read(letter)
    assert death is not None
    assert death.reason == "invalid"
    assert "is in the future: more than 300 s after 2026-11-22T10:" in death.detail


@simulated
async def test_what_only_this_hosts_clock_could_judge_is_returned() -> None:
    host = WallClock(timedelta(days=-2))
    world = await open_world()
    await world.push(body(0, accepted_at="2026-11-22T10:08:00Z"))
    await world.source.receive(1, wait_seconds=0, visibility_timeout_seconds=600)
    await asyncio.sleep(600)  # by now it is no longer in the future, but who is to say so?
    running = await _run(world, host=host, backoff_cap_seconds=60.0)
    world.sqs.date = str
    await asyncio.sleep(100)
    assert running.figures["dead_lettered"] == running.figures["recorded"] == 0
    await world.push(body(1, accepted_at="2026-11-22T10:08:00Z"))  # a first receive is a clock
    await running.until(recorded=2)
    await running.stop()


@simulated
async def test_unknown_fields_are_kept_and_counted() -> None:
    running = await _run()
    await running.world.push(body(0, referrer="x", colour="y"))
    await running.until(recorded=1)
    await running.stop()
    assert running.pipeline.metrics.events["unknown_fields"] == 2
    assert json.loads(running.world.records()[0]["extra"]) == {"referrer": "x", "colour": "y"}


@simulated
async def test_under_load_calls_are_few() -> None:
    running = await _run()
    await running.world.push(*_bodies(1000))
    running.world.calls.clear()
    await running.until(recorded=1000)
    await running.stop()
    queue_calls = running.world.calls.total()
    table_calls = len(running.world.dynamodb.batches)
    assert queue_calls < 350
    assert table_calls < 200
    assert running.world.dynamodb.reads["aup-policies"] == 1


@simulated
async def test_a_stop_finishes_what_was_begun() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10.0
    running = _Run(await open_world(), store)
    await running.world.push(*_bodies(20))
    await asyncio.sleep(5)
    assert running.figures["held"] == 20
    await running.stop()
    assert running.figures["recorded"] == 20
    assert running.world.bodies(SOURCE) == []


@simulated
async def test_what_a_last_poll_brings_is_handed_back_at_once() -> None:
    running = await _run()
    await asyncio.sleep(5)  # a poll is under way, for 15 s more
    running.pipeline.stopping.set()
    await running.world.push(*_bodies(7))
    await running.task
    running.audit()
    assert running.figures["returned"] == 7
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (7, 0)
    assert running.world.records() == []


@simulated
async def test_what_is_unfinished_after_the_drain_timeout_is_handed_back() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10_000.0
    running = _Run(await open_world(), store, drain_timeout_seconds=25.0, stop_timeout_seconds=30.0)
    await running.world.push(*_bodies(20))
    await asyncio.sleep(100)
    begun_at = _now()
    await running.stop()
    assert 25 <= _now() - begun_at < 26
    assert running.figures["returned"] == 20
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (20, 0)


@simulated
async def test_what_is_settling_when_the_drain_runs_out_of_time_is_settled() -> None:
    world = await open_world()
    delete = world.source.delete

    async def delete_slowly(messages: Sequence[ReceivedMessage]) -> list[AWSError | None]:
        await asyncio.sleep(10)
        return await delete(messages)

    world.source.delete = delete_slowly  # type: ignore[method-assign]
    running = _Run(
        world, FakeAcceptanceStore(policy()), drain_timeout_seconds=2.0, stop_timeout_seconds=30.0
    )
    await world.push(*_bodies(5))
    await asyncio.sleep(1)
    assert running.figures["held"] == 5
    await running.stop()
    assert running.figures["recorded"] == 5
    assert running.pipeline.metrics.events["deleted"] == 5
    assert world.bodies(SOURCE) == []


@simulated
async def test_leases_outlive_the_drain() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 70.0
    running = _Run(
        await open_world(),
        store,
        drain_timeout_seconds=100.0,
        stop_timeout_seconds=110.0,
        visibility_timeout_seconds=40,
    )
    await running.world.push(*_bodies(10))
    await asyncio.sleep(1)
    await running.stop()
    assert running.figures["recorded"] == 10
    assert running.pipeline.metrics.events["lease_lost"] == 0
    assert running.pipeline.metrics.events["lease_extended"] >= 10
    for stored in running.world.sqs.queue(SOURCE).messages.values():
        pytest.fail(f"{stored} is left")


@simulated
async def test_a_queue_that_hangs_cannot_hold_the_stop_beyond_its_time() -> None:
    running = await _run(drain_timeout_seconds=25.0, stop_timeout_seconds=30.0)
    await running.world.push(*_bodies(20))
    running.world.faults.break_down("sqs")
    await asyncio.sleep(1)
    running.world.faults.mend("sqs")
    await running.until(received=20)
    running.world.faults.break_down("sqs")
    begun_at = _now()
    running.pipeline.stopping.set()
    await running.task
    assert _now() - begun_at < 30
    assert running.figures["balanced"]
    assert running.pipeline.slots.in_flight == 0


@simulated
async def test_a_throttled_table_holds_the_messages_and_burns_no_receive() -> None:
    running = await _run(hold_seconds=3600.0, visibility_timeout_seconds=40)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "ThrottlingException")
    source = running.world.sqs.queue(SOURCE)
    await running.world.push(*_bodies(40))
    await asyncio.sleep(30)  # polls under way are not cancelled
    await running.world.push(*_bodies(200)[40:])
    await asyncio.sleep(60)
    assert source.handed_out_count == 40, "receiving goes on while the table fails"
    assert running.figures["held"] == 40
    running.world.dynamodb.spoil_call = lambda _: None
    await running.until(recorded=200)
    assert source.handed_out_count == 200
    await running.stop()


@simulated
async def test_a_throttled_table_does_not_delay_the_stop() -> None:
    running = await _run()
    running.world.dynamodb.spoil_item = lambda _: "ThrottlingError"
    await running.world.push(*_bodies(20))
    await asyncio.sleep(60)
    begun_at = _now()
    await running.stop()
    assert _now() - begun_at < 25
    assert running.figures["returned"] == 20
    state = await running.world.source.state()
    assert (state.visible, state.in_flight) == (20, 0)


async def _given_up(running: _Run) -> str:
    with pytest.raises(GaveUpError) as caught:
        async with asyncio.timeout(3600):
            await running.task
    running.audit()
    return str(caught.value)


@simulated
async def test_a_table_that_denies_access_for_long_ends_the_run_and_loses_nothing() -> None:
    running = await _run(give_up_seconds=300.0)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "AccessDeniedException")
    await running.world.push(*_bodies(20))
    assert "AccessDeniedException" in await _given_up(running)
    assert 300 < _now() < 400
    assert sorted(running.world.bodies(SOURCE)) == sorted(_bodies(20))
    assert (await running.world.source.state()).visible == 20


@simulated
async def test_an_extension_that_is_denied_is_noticed_and_stops_receiving() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 1000.0
    running = _Run(await open_world(), store, visibility_timeout_seconds=40)
    denial = Denial(
        code="AccessDeniedException", operations=frozenset({"ChangeMessageVisibilityBatch"})
    )
    running.world.faults.deny("sqs", denial)
    await running.world.push(*_bodies(5))
    await asyncio.sleep(30)
    assert any("AccessDenied" in why for why in running.pipeline.health.why_not_ready())
    await asyncio.sleep(20)  # the poll that was under way has ended
    received = running.figures["received"]
    await running.world.push(*_bodies(50)[5:])
    await asyncio.sleep(100)
    assert running.figures["received"] == received
    assert "AccessDenied" in await _given_up(running)
    assert 320 < _now() < 500


@simulated
async def test_a_table_service_that_does_not_support_the_write_ends_the_run() -> None:
    running = await _run(give_up_seconds=300.0)
    error = dynamodb_error("Batch", "UnknownOperationException")
    running.world.dynamodb.spoil_call = lambda _: error
    await running.world.push(*_bodies(20))
    assert "AUP_WRITE_API=put" in await _given_up(running)
    assert 300 < _now() < 400
    assert sorted(running.world.bodies(SOURCE)) == sorted(_bodies(20))


@simulated
async def test_a_queue_that_is_gone_for_long_ends_the_run() -> None:
    running = await _run(give_up_seconds=60.0)
    await asyncio.sleep(10)
    running.world.sqs.queues.clear()
    assert "QueueDoesNotExist" in await _given_up(running) or _now() > 60


@simulated
async def test_a_stage_that_fails_ends_the_run_in_good_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: Leases) -> None:
        await asyncio.sleep(5)
        raise ZeroDivisionError

    monkeypatch.setattr(Leases, "run", fail)
    running = await _run()
    await running.world.push(*_bodies(20))
    with capture_logs() as logs:
        assert await _given_up(running) == "stage leases failed: ZeroDivisionError"
    assert [each["stage"] for each in logs if each["log_level"] == "error"] == ["leases"]
    assert running.figures["recorded"] == 20


class _HungLedger(FakeAcceptanceStore):
    """Never answer again, whatever the deadlines say."""

    async def record(self, *_: Any, **__: Any) -> RecordResult:
        await asyncio.Event().wait()
        raise AssertionError


@simulated
async def test_work_that_stands_still_ends_the_run_and_loses_nothing() -> None:
    world = await open_world()
    running = _Run(world, _HungLedger(policy()), slots=10)
    await world.push(*_bodies(20))
    assert "no poll completed and no message was attempted for" in await _given_up(running)
    assert 100 < _now() < 300
    assert sorted(world.bodies(SOURCE)) == sorted(_bodies(20))


@simulated
async def test_an_idle_queue_or_a_long_outage_is_no_standstill() -> None:
    running = await _run(hold_seconds=3600.0, slots=20)
    await asyncio.sleep(3600)
    running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "InternalServerError")
    await running.world.push(*_bodies(40))
    await asyncio.sleep(3000)
    assert not running.task.done()
    running.world.dynamodb.spoil_call = lambda _: None
    await running.until(recorded=40)
    await running.stop()


@simulated
async def test_a_slot_that_leaks_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    given_back = Slot.release

    def leak(slot: Slot) -> None:
        if running.figures["recorded"] != 7:
            given_back(slot)

    monkeypatch.setattr(Slot, "release", leak)
    running = await _run()
    await running.world.push(*_bodies(20))
    with pytest.raises(GaveUpError, match="1 slots filled, 0 messages held"):
        await running.task


@simulated
async def test_readiness_goes_while_access_is_denied_and_comes_back() -> None:
    running = await _run(give_up_seconds=3000.0)
    await running.world.push(*_bodies(20))
    await running.until(recorded=20)
    assert running.pipeline.health.why_not_ready() == []
    with capture_logs() as logs:
        denied = dynamodb_error("Batch", "AccessDeniedException")
        running.world.dynamodb.spoil_call = lambda _: denied
        await running.world.push(*_bodies(40)[20:])
        await asyncio.sleep(600)
        assert any(
            "AccessDeniedException" in why for why in running.pipeline.health.why_not_ready()
        )
        running.world.dynamodb.spoil_call = lambda _: None
        await running.until(recorded=40)
        await asyncio.sleep(20)
    assert running.pipeline.health.why_not_ready() == []
    told = [each["event"] for each in logs]
    assert told.count("not ready") == told.count("ready again") == 1
    assert 8 <= told.count("AWS call failed") <= 11, "once a minute"
    await running.stop()


@simulated
async def test_the_receive_rate_follows_a_table_that_throttles() -> None:
    world = await open_world()
    repository = world.repository()
    await repository.publish_policy(policy())
    running = _Run(world, repository, slots=60)
    source = running.world.sqs.queue(SOURCE)
    throttling = iter(lambda: None if _now() % 10 < 0.5 else "ThrottlingError", 0)
    running.world.dynamodb.spoil_item = lambda _: next(throttling)
    await running.world.push(*_bodies(2000))
    least = running.pipeline.slots.limit
    for _ in range(600):
        await asyncio.sleep(0.5)
        assert source.handed_out_count <= running.figures["recorded"] + 60
        least = min(least, repository.write_concurrency)
    assert least == 1
    assert 100 < running.figures["recorded"] < 2000
    running.world.dynamodb.spoil_item = lambda _: None
    await running.until(recorded=2000)
    assert source.handed_out_count == 2000, "no receive was burnt"
    assert repository.write_concurrency > 4
    await running.stop()


@simulated
async def test_an_unexpected_failure_concerns_its_own_message_only() -> None:
    store = FakeAcceptanceStore(policy())
    store.results = [ZeroDivisionError("ours")]
    running = _Run(await open_world(), store, max_attempts=1)
    with capture_logs() as logs:
        await running.world.push(*_bodies(5))
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
async def test_a_failure_in_settling_ends_neither_the_flow_nor_the_message(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    running = await _run(visibility_timeout_seconds=40)
    delete = running.pipeline.supervisor._settler._delete
    failures = [ZeroDivisionError()]

    async def fail_once(*given: Any) -> None:
        if failures:
            raise failures.pop()
        await delete(*given)

    monkeypatch.setattr(running.pipeline.supervisor._settler, "_delete", fail_once)
    await running.world.push(body())
    await running.until(returned=1, held=0)
    await asyncio.sleep(100)
    assert running.figures["duplicates"] == 1, "its visibility ended, it came again"
    assert running.world.bodies(SOURCE) == []
    await running.stop()


@simulated
async def test_cancelled_it_ends_at_once_and_what_was_held_reappears() -> None:
    store = FakeAcceptanceStore(policy())
    store.seconds = 10_000.0
    running = _Run(await open_world(), store)
    await running.world.push(*_bodies(20))
    await asyncio.sleep(100)
    begun_at = _now()
    running.task.cancel()
    await asyncio.wait([running.task])
    assert running.task.cancelled()
    assert _now() - begun_at < 1
    assert running.pipeline.slots.in_flight == 0
    assert running.figures["balanced"]
    assert running.figures["held"] == 20
    await asyncio.sleep(121)
    assert (await running.world.source.state()).visible == 20


@pytest.mark.parametrize("milliseconds", [*range(0, 200, 7), 20_020, 20_040])
def test_a_stop_at_any_moment_loses_nothing_and_leaves_nothing_in_flight(milliseconds: int) -> None:
    async def main() -> None:
        running = await _run(slots=40)
        bodies = _bodies(60) + ["{"] * 3
        await running.world.push(*bodies)
        await asyncio.sleep(milliseconds / 1000)
        await running.stop()
        state = await running.world.source.state()
        assert state.in_flight == 0
        figures = running.figures
        kept = figures["recorded"] + figures["dead_lettered"] + state.visible
        assert kept == len(bodies)
        assert len(running.world.records()) == figures["recorded"]

    run(main)


@pytest.mark.parametrize("seed", range(12))
def test_a_cancellation_at_any_moment_loses_nothing_and_leaks_no_slot(seed: int) -> None:
    async def main() -> None:
        world = await open_world(seed=seed)
        running = await _run(world, slots=40)
        await world.push(*_bodies(60))
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


# All but what nothing here can meet: no read is eventually consistent, no redrive policy is set.
KINDS = {each.name for each in fields(FaultRates)} - {"stale_read", "redrive_resets_count"}


@pytest.mark.parametrize("seed", range(6))
def test_through_faults_of_every_kind_the_books_balance_and_nothing_is_lost(seed: int) -> None:
    async def main() -> None:
        world = await open_world(seed=seed)
        repository = world.repository()
        await repository.publish_policy(policy())
        await world.push(*_bodies(150), *["{"] * 10)
        # Before the pipeline begins: it needs less than a second for all of them.
        world.faults.rates = FaultRates(**dict.fromkeys(KINDS, 0.1))
        running = _Run(world, repository, unknown_policy_seconds=5, backoff_base_seconds=0.5)
        await asyncio.sleep(300)
        assert running.figures["balanced"]
        assert world.faults.happened.keys() == KINDS
        world.faults.stop()
        async with asyncio.timeout(5000):
            while world.bodies(SOURCE):  # noqa: ASYNC110 - virtual time
                await asyncio.sleep(1)
        await running.stop()
        assert {item["event_id"] for item in world.records()} == {
            f"event-{number}" for number in range(150)
        }
        assert world.bodies(DEAD_LETTERS).count("{") >= 10
        world.dynamodb.verify()

    run(main)


@simulated
async def test_no_log_line_holds_a_body_or_any_evidence() -> None:
    structlog.reset_defaults()
    with capture_logs() as logs:
        running = await _run(max_attempts=2, backoff_base_seconds=0.5, unknown_policy_seconds=1)
        bodies = [each for kind in MIXED.values() for each in kind]
        await running.world.push(*bodies, body(0, channel="forged"), body(7, ip=[IP] * 9))
        await running.until(dead_lettered=7, held=0)
        running.world.dynamodb.spoil_call = lambda _: dynamodb_error("Batch", "Nonsense")
        await running.world.push(*_bodies(30)[10:])
        await asyncio.sleep(100)
        await running.stop()
    text = str(logs)
    assert "settled" in text
    assert "drain started" in text
    for secret in (IP, USER_AGENT, SESSION_ID, "clickwrap", "forged", '{"event_id'):
        assert secret not in text


@simulated
async def test_per_message_lines_are_at_debug_level_only() -> None:
    with capture_logs() as logs:
        running = await _run()
        await running.world.push(*_bodies(50))
        await running.until(recorded=50)
        await running.stop()
    levels = Counter(each["log_level"] for each in logs if "message_id" in each)
    assert levels == {"debug": 50}
    assert len(logs) - 50 < 10


@simulated
async def test_a_flow_takes_any_ledger() -> None:
    store = FakeAcceptanceStore()
    running = _Run(await open_world(), store, unknown_policy_seconds=0.1, max_attempts=1)
    await running.world.push(body())
    await running.until(dead_lettered=1)
    await running.stop()
