"""Tests of the outcome of an acceptance for each response of the table."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START, run, simulated
from tests.unit.fakes import (
    IP,
    TEXT,
    TEXT_SHA256,
    FakeAcceptanceStore,
    acceptance,
    clock,
    policy,
    received_message,
    service_state,
    settings,
)
from worker.domain.dead_letter import origin
from worker.domain.outcome import DUPLICATE, RECORDED, Outcome, OutcomeKind
from worker.domain.policy import PolicyText
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    Reason,
)
from worker.pipeline.breaker import Breaker
from worker.pipeline.record import Recorder
from worker.repository import RecordResult

THROTTLED = AWSThrottledError("slow down")


class _Recording:
    def __init__(self, *policies: Any, **changes: Any) -> None:
        self.store = FakeAcceptanceStore(*(policies or (policy(),)))
        self.state = service_state(settings(**changes))
        self.events = self.state.metrics.events
        self.breaker, self.stopping = self.state.breaker, self.state.stopping
        self.recorder = Recorder(self.store, self.state)

    async def record(self, *, receive_count: int = 1, **changes: Any) -> Outcome:
        given = received_message(receive_count=receive_count)
        return await self.recorder.record(acceptance(**changes), given)


def _now() -> float:
    return asyncio.get_running_loop().time()


@simulated
async def test_record_has_the_time_when_sqs_received_the_message() -> None:
    recording = _Recording()
    sent_at = START - timedelta(hours=1)  # our own clock says START
    given = received_message(sent_at=sent_at, first_received_at=START - timedelta(minutes=30))
    assert await recording.recorder.record(acceptance(), given) is RECORDED
    assert recording.store.texts == [TEXT]
    assert recording.store.origins == [origin(given)]
    assert recording.store.origins[0].received_at == sent_at


@simulated
async def test_duplicate_is_acknowledged_and_conflict_is_dead_lettered() -> None:
    recording = _Recording()
    recording.store.results = [RecordResult.DUPLICATE, RecordResult.CONFLICT]
    assert await recording.record() is DUPLICATE
    outcome = await recording.record()
    assert (outcome.kind, outcome.reason) == (OutcomeKind.DEAD_LETTERED, Reason.CONFLICT)
    assert outcome.detail == "event_id event-0 is recorded already with other content"


@simulated
async def test_other_text_than_published_is_dead_lettered_immediately() -> None:
    recording = _Recording()
    outcome = await recording.record(content_sha256="0" * 64)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.DEAD_LETTERED, Reason.CONTENT_MISMATCH)
    assert "0" * 64 in outcome.detail
    assert TEXT_SHA256 in outcome.detail
    assert recording.store.recorded == []
    assert _now() < 0.001


@simulated
async def test_content_hash_may_be_upper_case_or_absent() -> None:
    recording = _Recording()
    assert await recording.record(content_sha256=TEXT_SHA256.upper()) is RECORDED
    assert await recording.record(content_sha256=None) is RECORDED


@simulated
async def test_acceptance_is_bound_to_a_text_in_its_language_that_the_cache_lacks() -> None:
    recording = _Recording()
    spanish = PolicyText("2" * 64, "es-ES")
    recording.store.rechecked = policy(texts=(spanish,))
    assert await recording.record(locale="es-ES", content_sha256=None) is RECORDED
    assert await recording.record(locale="es-ES") is RECORDED
    assert recording.store.texts == [spanish, TEXT]


@simulated
async def test_acceptance_of_a_retired_version_is_recorded() -> None:
    recording = _Recording(policy(retired_at=START - timedelta(days=1)))
    assert await recording.record() is RECORDED


@simulated
async def test_unknown_version_is_returned_with_growing_delays_then_dead_lettered() -> None:
    recording = _Recording(policy("other"), unknown_policy_seconds=60.0, backoff_base_seconds=1.0)
    delays = []
    receive_count = 0
    while True:
        receive_count += 1
        outcome = await recording.record(receive_count=receive_count)
        if outcome.kind is OutcomeKind.DEAD_LETTERED:
            break
        assert outcome.kind is OutcomeKind.RETURNED
        assert 0 <= outcome.delay_seconds < 2.0 ** (receive_count - 1)
        delays.append(outcome.delay_seconds)
        await asyncio.sleep(outcome.delay_seconds + 10)
    assert outcome.reason is Reason.UNKNOWN_POLICY
    assert outcome.detail == "policy acceptable-use has no published version 2026-01"
    assert _now() >= 60 or receive_count == 8
    assert recording.events["unknown_policy_waits"] == len(delays)
    assert recording.store.recorded == []


@pytest.mark.parametrize(
    ("seconds", "receive_count", "dead"),
    [(0, 1, False), (61, 1, False), (61, 2, False), (59, 3, False), (60, 3, True), (0, 8, True)],
)
@simulated
async def test_unknown_version_is_dead_lettered_after_enough_time_and_receives(
    seconds: float, receive_count: int, dead: bool
) -> None:
    recording = _Recording(policy("other"))
    await asyncio.sleep(seconds)
    outcome = await recording.record(receive_count=receive_count)
    assert outcome.kind is (OutcomeKind.DEAD_LETTERED if dead else OutcomeKind.RETURNED)


def _whole_seconds() -> datetime:
    return clock().replace(microsecond=0)  # as a Date header states them


@pytest.mark.parametrize("now", [clock, _whole_seconds])
@pytest.mark.parametrize("seconds", [5.0, 60.0, 600.0])
def test_wait_for_a_version_ends_on_time(now: Callable[[], datetime], seconds: float) -> None:
    async def main() -> float:
        recording = _Recording(policy("other"), unknown_policy_seconds=seconds)
        recording.state.sqs_clock.now = now  # type: ignore[method-assign] # of this precision
        receive_count = 1
        while (
            outcome := await recording.record(receive_count=receive_count)
        ).kind is OutcomeKind.RETURNED:
            receive_count += 1
            await asyncio.sleep(round(outcome.delay_seconds) + 0.05)  # SQS counts whole seconds
        assert outcome.reason is Reason.UNKNOWN_POLICY
        return _now()

    for seed in range(200):
        assert seconds <= run(main, seed=seed) <= seconds + 3


@pytest.mark.parametrize("published_seconds", [1, 10, 30, 45])
def test_late_published_version_is_recorded_soon(published_seconds: float) -> None:
    async def main() -> float:
        recording = _Recording(policy("other"), unknown_policy_seconds=60.0)
        receive_count = 1
        while True:
            if _now() >= published_seconds:
                recording.store.policies["acceptable-use", "2026-01"] = policy()
            outcome = await recording.record(receive_count=receive_count)
            if outcome is RECORDED:
                return _now() - published_seconds
            receive_count += 1
            await asyncio.sleep(round(outcome.delay_seconds) + 0.05)

    delays = sorted(run(main, seed=seed) for seed in range(200))
    assert delays[100] <= 20
    assert published_seconds + delays[-1] <= 63


@simulated
async def test_last_wait_for_a_version_is_the_remaining_time_in_whole_seconds() -> None:
    recording = _Recording(policy("other"), unknown_policy_seconds=60.0)
    await asyncio.sleep(43.6)
    outcome = await recording.record(receive_count=7)  # of 8, so that the next one is the last
    assert (outcome.kind, outcome.delay_seconds) == (OutcomeKind.RETURNED, 17.0)


@simulated
async def test_wait_for_a_version_starts_at_the_sending_without_a_first_receive() -> None:
    recording = _Recording(policy("other"))
    nothing = datetime.fromtimestamp(0, UTC)
    given = received_message(receive_count=3, first_received_at=nothing)
    assert (await recording.recorder.record(acceptance(), given)).kind is OutcomeKind.RETURNED


@simulated
async def test_version_published_during_the_wait_is_recorded() -> None:
    recording = _Recording(policy("other"))
    assert (await recording.record()).kind is OutcomeKind.RETURNED
    recording.store.policies["acceptable-use", "2026-01"] = policy()
    assert await recording.record(receive_count=2) is RECORDED


@pytest.mark.parametrize("error", [THROTTLED, AWSUnavailableError("down"), AWSDeniedError("no")])
@simulated
async def test_message_is_held_while_the_table_fails_without_using_up_receives(
    error: AWSError,
) -> None:
    recording = _Recording()
    recording.store.results = [error] * 30
    assert await recording.record() is RECORDED
    assert len(recording.store.recorded) == 31
    assert recording.events["table_failures"] == 30
    assert _now() > 10


@simulated
async def test_message_is_held_while_its_policy_cannot_be_read() -> None:
    recording = _Recording()
    recording.store.policy_error = AWSUnavailableError("down")
    task = asyncio.create_task(recording.record())
    await asyncio.sleep(100)
    assert not task.done()
    recording.store.policy_error = None
    assert await task is RECORDED


@simulated
async def test_message_is_returned_with_the_error_after_the_hold_time() -> None:
    recording = _Recording(hold_seconds=600.0)
    recording.store.results = [THROTTLED] * 10_000
    outcome = await recording.record()
    assert (outcome.kind, outcome.detail) == (OutcomeKind.RETURNED, "slow down")
    assert 580 < _now() < 600


@simulated
async def test_message_is_dead_lettered_after_the_hold_time_of_its_last_receive() -> None:
    recording = _Recording(hold_seconds=60.0, max_attempts=5)
    recording.store.results = [THROTTLED] * 10_000
    outcome = await recording.record(receive_count=5)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.DEAD_LETTERED, Reason.EXHAUSTED)
    assert outcome.detail == "failed in 5 receives: slow down"


@pytest.mark.parametrize("error", [AWSDeniedError("no"), AWSNotFoundError("gone")])
@simulated
async def test_message_is_returned_even_at_its_last_receive_while_access_is_denied(
    error: AWSError,
) -> None:
    recording = _Recording(hold_seconds=60.0, max_attempts=5)
    recording.store.results = [error] * 10_000
    outcome = await recording.record(receive_count=5)
    assert (outcome.kind, outcome.detail) == (OutcomeKind.RETURNED, str(error))


@simulated
async def test_only_a_write_closes_the_breaker_while_writes_fail() -> None:
    recording = _Recording(hold_seconds=60.0)
    recording.store.results = [AWSDeniedError("no")] * 10_000
    await recording.record()
    assert recording.breaker.is_open
    assert (await recording.record(content_sha256="0" * 64)).kind is OutcomeKind.DEAD_LETTERED
    assert recording.breaker.is_open
    recording.store.results = []
    assert await recording.record() is RECORDED
    assert not recording.breaker.is_open


@simulated
async def test_rejected_item_is_returned_until_its_last_receive() -> None:
    recording = _Recording(max_attempts=5)
    recording.store.results = [AWSRejectedError("too large")] * 2
    outcome = await recording.record(receive_count=4)
    assert (outcome.kind, outcome.detail) == (
        OutcomeKind.RETURNED,
        "rejected by the table: too large",
    )
    outcome = await recording.record(receive_count=5)
    assert (outcome.kind, outcome.reason) == (OutcomeKind.DEAD_LETTERED, Reason.EXHAUSTED)
    assert _now() < 0.001


@simulated
async def test_stop_returns_a_held_message_immediately_and_without_delay() -> None:
    recording = _Recording(backoff_base_seconds=100.0, backoff_cap_seconds=100.0)
    recording.store.results = [THROTTLED] * 10_000
    task = asyncio.create_task(recording.record())
    await asyncio.sleep(50)
    recording.stopping.set()
    outcome = await task
    assert _now() == pytest.approx(50, abs=0.01)
    assert outcome == Outcome.returned("stopping: slow down")


@simulated
async def test_stop_waits_for_a_write_in_flight() -> None:
    recording = _Recording()
    recording.store.seconds = 5.0
    task = asyncio.create_task(recording.record())
    await asyncio.sleep(1)
    recording.stopping.set()
    assert await task is RECORDED


@simulated
async def test_failures_open_the_breaker_and_a_success_closes_it() -> None:
    recording = _Recording()
    recording.store.results = [THROTTLED] * Breaker.FAILURES
    task = asyncio.create_task(recording.record())
    while not recording.breaker.is_open:
        assert not task.done()
        await asyncio.sleep(0.01)
    assert await task is RECORDED
    assert not recording.breaker.is_open


@simulated
async def test_rejected_item_does_not_open_the_breaker() -> None:
    recording = _Recording()
    recording.store.results = [AWSRejectedError("no")] * 50
    for _ in range(50):
        await recording.record()
    assert not recording.breaker.is_open


@simulated
async def test_details_contain_no_evidence() -> None:
    recording = _Recording(max_attempts=1)
    recording.store.results = [RecordResult.CONFLICT, AWSRejectedError("no")]
    for outcome in (
        await recording.record(),
        await recording.record(),
        await recording.record(version="unknown"),
        await recording.record(content_sha256="0" * 64),
    ):
        assert outcome.kind is OutcomeKind.DEAD_LETTERED
        assert IP not in outcome.detail
