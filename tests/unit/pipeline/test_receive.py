"""Tests of polls: limited by the free slots, and never cancelled."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.simulation.virtual_clock import DeadlockError, run, simulated
from tests.unit.fakes import (
    FakeQueue,
    aws_settings,
    received_message,
    service_state,
    settings,
)
from worker.aws.access import Operation, Probe
from worker.domain.message import ReceivedMessage
from worker.errors import AWSDeniedError, AWSError, AWSUnavailableError
from worker.pipeline.breaker import Breaker
from worker.pipeline.receive import Receiver
from worker.pipeline.slots import Slot, Slots


async def _denied() -> None:
    raise AWSDeniedError("no")


_DELETE_PROBE = Probe(Operation.DELETE, "sqs:DeleteMessage", "queue test", _denied)


class _Backlog(FakeQueue):
    """Queue with a number of messages; polls wait when it is empty, unless `waits` is false."""

    def __init__(self, backlog: int, *, seconds: float = 0.05, waits: bool = True) -> None:
        super().__init__(seconds=seconds)
        self.waits = waits
        self.backlog = backlog
        self.asked: list[int] = []
        self.polling = 0
        self.most_polling = 0
        self.cancelled = 0
        self.errors: list[AWSError] = []
        self.handed_out = 0
        self.body = "{}"

    async def receive(
        self, max_messages: int, *, wait_seconds: int, visibility_timeout_seconds: int
    ) -> list[ReceivedMessage]:
        assert visibility_timeout_seconds == 120
        self.asked.append(max_messages)
        self.polling += 1
        self.most_polling = max(self.most_polling, self.polling)
        try:
            await asyncio.sleep(self.seconds)
            if self.errors:
                raise self.errors.pop(0)
            if not self.backlog and self.waits:
                await asyncio.sleep(wait_seconds)
            count = min(self.backlog, max_messages)
            self.backlog -= count
            self.handed_out += count
            return [
                received_message(self.handed_out - each, body=self.body) for each in range(count)
            ]
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.polling -= 1


class _Trial:
    def __init__(
        self,
        queue: _Backlog,
        *,
        slots: int = 500,
        concurrency: int = 8,
        limit_bytes: float = 64 * 1_048_576,
    ) -> None:
        self.queue = queue
        self.slots = Slots(slots, limit_bytes)
        self.accepted: list[ReceivedMessage] = []
        self.hold_seconds = 0.0
        self.most_in_flight = 0
        self.most_bytes = 0
        chosen = settings(poll_concurrency=concurrency, aws=aws_settings(call_timeout_seconds=1.0))
        self.state = service_state(chosen, self.slots, probes=[_DELETE_PROBE])
        self.breaker, self.access = self.state.breaker, self.state.access
        self.events, self.stopping = self.state.metrics.events, self.state.stopping
        self.task = asyncio.create_task(Receiver(queue, self._accept, self.state).run())

    def _accept(self, each: ReceivedMessage, slot: Slot) -> None:
        self.accepted.append(each)
        self.most_in_flight = max(self.most_in_flight, self.slots.in_flight)
        self.most_bytes = max(self.most_bytes, self.slots.bytes_in_flight)
        if self.hold_seconds:
            asyncio.get_running_loop().call_later(self.hold_seconds, slot.release)
        else:
            slot.release()

    async def stop(self) -> None:
        self.stopping.set()
        await self.task
        assert self.queue.cancelled == 0
        assert len(self.accepted) == self.queue.handed_out
        assert self.slots.in_flight == 0


@simulated
async def test_single_poll_when_idle() -> None:
    trial = _Trial(_Backlog(0))
    await asyncio.sleep(600)
    assert trial.queue.most_polling == 1
    assert 25 <= len(trial.queue.asked) <= 30
    await trial.stop()


@simulated
async def test_polls_are_concurrent_under_load_only() -> None:
    trial = _Trial(_Backlog(3000))
    await asyncio.sleep(3)
    assert trial.queue.most_polling == 8
    await asyncio.sleep(300)
    assert len(trial.accepted) == 3000
    trial.queue.most_polling = trial.queue.polling
    await asyncio.sleep(300)
    assert trial.queue.most_polling == 1
    await trial.stop()


@simulated
async def test_messages_in_flight_never_exceed_the_slots() -> None:
    trial = _Trial(_Backlog(1000), slots=30)
    trial.hold_seconds = 3.0
    await asyncio.sleep(60)
    assert trial.most_in_flight == 30
    assert max(trial.queue.asked) == 10
    await asyncio.sleep(300)
    await trial.stop()


@simulated
async def test_no_poll_without_free_slots() -> None:
    trial = _Trial(_Backlog(1000), slots=20)
    trial.hold_seconds = 10_000.0
    await asyncio.sleep(500)
    assert trial.queue.handed_out == 20
    assert trial.queue.polling == 0
    assert len(trial.queue.asked) <= 4
    trial.stopping.set()
    await trial.task


@simulated
async def test_poll_requests_at_most_as_many_messages_as_its_slots() -> None:
    trial = _Trial(_Backlog(1000), slots=3)
    trial.hold_seconds = 1.0
    await asyncio.sleep(20)
    assert set(trial.queue.asked) <= {1, 2, 3}
    assert trial.most_in_flight <= 3
    trial.queue.backlog = 0
    await asyncio.sleep(5)
    await trial.stop()


@simulated
async def test_stop_waits_for_the_poll_in_flight_and_accepts_its_messages() -> None:
    trial = _Trial(_Backlog(0))
    await asyncio.sleep(5)
    trial.stopping.set()
    trial.queue.backlog = 7
    await trial.stop()
    assert len(trial.accepted) == 7
    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.2)


@simulated
async def test_no_poll_starts_after_a_stop() -> None:
    trial = _Trial(_Backlog(10_000))
    await asyncio.sleep(1)
    trial.stopping.set()
    await asyncio.sleep(0)
    asked = len(trial.queue.asked)
    await trial.stop()
    assert len(trial.queue.asked) == asked


@pytest.mark.parametrize("milliseconds", range(0, 400, 20))
def test_stop_at_any_moment_leaves_no_message_unaccepted(milliseconds: int) -> None:
    async def main() -> None:
        trial = _Trial(_Backlog(200), slots=30)
        trial.hold_seconds = 0.1
        await asyncio.sleep(milliseconds / 1000)
        trial.stopping.set()
        await trial.task
        await asyncio.sleep(1)
        await trial.stop()

    run(main)


@simulated
async def test_failed_poll_is_retried_with_backoff() -> None:
    queue = _Backlog(5)
    queue.errors = [AWSUnavailableError("down")] * 6
    trial = _Trial(queue)
    await asyncio.sleep(200)
    assert len(trial.accepted) == 5
    assert trial.events["poll_failures"] == 6
    assert trial.state.failure is None
    await trial.stop()


class _Lavish(_Backlog):
    """Queue that returns three times as many messages as requested."""

    async def receive(self, max_messages: int, **options: Any) -> list[ReceivedMessage]:
        self.asked.append(max_messages)
        surplus = await super().receive(3 * max_messages, **options)
        self.asked.pop()
        return surplus


@pytest.mark.parametrize("error", [None, AWSUnavailableError("down")])
@simulated
async def test_surplus_messages_are_returned_immediately(
    error: AWSError | None,
) -> None:
    queue = _Lavish(120)
    queue.on_change = lambda entries: error or [None] * len(entries)
    trial = _Trial(queue, concurrency=1)
    await asyncio.sleep(30)
    assert not trial.task.done()
    returned = queue.entries("change")
    assert len(trial.accepted) == 40
    assert len(returned) == trial.events["surplus_messages"] == 80
    assert {seconds for _, seconds in returned} == {0.0}
    ids = [each.message_id for each in trial.accepted] + [each.message_id for each, _ in returned]
    assert len(set(ids)) == 120
    assert all(len(batch) <= 10 for batch in queue.of("change"))
    queue.handed_out -= len(returned)
    await trial.stop()


@simulated
async def test_failing_polls_are_rare() -> None:
    queue = _Backlog(0)
    queue.errors = [AWSUnavailableError("down")] * 10_000
    trial = _Trial(queue)
    await asyncio.sleep(3600)
    assert len(queue.asked) < 600
    queue.errors.clear()
    await trial.stop()


@simulated
async def test_long_denial_by_the_queue_ends_the_service() -> None:
    queue = _Backlog(0)
    queue.errors = [AWSDeniedError("no")] * 10_000
    trial = _Trial(queue)
    await asyncio.sleep(290)
    assert not trial.stopping.is_set()
    await asyncio.sleep(100)
    assert trial.state.failure is not None
    await trial.stop()


@simulated
async def test_only_probes_are_received_while_the_table_fails() -> None:
    trial = _Trial(_Backlog(1000))
    trial.hold_seconds = 2.0
    for _ in range(Breaker.FAILURES):
        trial.breaker.failed()
    await asyncio.sleep(61)
    # One message each 15 s, and only where none is held: receive counts are not burnt.
    assert trial.queue.asked == [1] * 4
    trial.breaker.succeeded()
    await asyncio.sleep(30)
    assert trial.queue.handed_out == 1000
    await trial.stop()


@simulated
async def test_no_message_is_received_while_settling_is_denied() -> None:
    trial = _Trial(_Backlog(1000))
    trial.access.failed(Operation.DELETE, AWSDeniedError("no"))
    await asyncio.sleep(600)
    assert trial.queue.asked == []
    assert trial.state.why_not_live() == []
    trial.access.succeeded(Operation.DELETE)
    await asyncio.sleep(30)
    assert trial.queue.handed_out == 1000
    await trial.stop()


@simulated
async def test_poll_waiting_for_slots_does_not_start_once_access_is_denied() -> None:
    trial = _Trial(_Backlog(1000), slots=10)
    trial.hold_seconds = 50.0
    await asyncio.sleep(1)
    trial.access.failed(Operation.DELETE, AWSDeniedError("no"))
    await asyncio.sleep(300)
    assert trial.queue.handed_out == 10
    await trial.stop()


@simulated
async def test_stop_does_not_wait_for_access() -> None:
    trial = _Trial(_Backlog(0))
    trial.access.failed(Operation.DELETE, AWSDeniedError("no"))
    await asyncio.sleep(100)
    begun_at = asyncio.get_running_loop().time()
    await trial.stop()
    assert asyncio.get_running_loop().time() - begun_at < 0.1


@simulated
async def test_no_probe_is_received_while_messages_are_in_flight() -> None:
    trial = _Trial(_Backlog(1000), slots=10)
    trial.hold_seconds = 5000.0
    await asyncio.sleep(1)
    for _ in range(Breaker.FAILURES):
        trial.breaker.failed()
    asked = len(trial.queue.asked)
    await asyncio.sleep(600)
    assert len(trial.queue.asked) == asked
    trial.stopping.set()
    await trial.task


@simulated
async def test_stop_does_not_wait_for_an_open_breaker() -> None:
    queue = _Backlog(0)
    trial = _Trial(queue)
    for _ in range(Breaker.FAILURES):
        trial.breaker.failed()
    await asyncio.sleep(10)
    begun_at = asyncio.get_running_loop().time()
    await trial.stop()
    assert asyncio.get_running_loop().time() - begun_at < 0.1


@simulated
async def test_time_of_the_last_poll_is_kept() -> None:
    trial = _Trial(_Backlog(0))
    await asyncio.sleep(30)
    assert trial.state.polled_at == pytest.approx(20, abs=0.2)
    await trial.stop()


@simulated
async def test_single_poll_during_an_outage_and_all_afterwards() -> None:
    queue = _Backlog(100_000)
    trial = _Trial(queue)
    await asyncio.sleep(1)
    assert queue.most_polling == 8
    queue.errors = [AWSUnavailableError("down")] * 10_000
    await asyncio.sleep(60)
    queue.most_polling = 0
    asked = len(queue.asked)
    await asyncio.sleep(3600)
    assert queue.most_polling == 1
    assert len(queue.asked) - asked < 400
    queue.errors.clear()
    await asyncio.sleep(31)
    assert queue.most_polling == 8
    queue.backlog = 0
    await asyncio.sleep(1)
    await trial.stop()


@simulated
async def test_polls_of_large_messages_respect_the_memory_limit() -> None:
    queue = _Backlog(300)
    queue.body = "x" * 1_000_000
    trial = _Trial(queue, limit_bytes=16_000_000)
    trial.hold_seconds = 1.0
    await asyncio.sleep(60)
    assert len(trial.accepted) == 300
    assert 10_000_000 < trial.most_bytes <= 16_000_000
    await trial.stop()
    assert trial.slots.bytes_in_flight == 0


@simulated
async def test_unexpected_error_in_a_poll_ends_the_receiver() -> None:
    queue: Any = _Backlog(5)
    queue.errors = [ZeroDivisionError()]
    trial = _Trial(queue)
    await asyncio.wait([trial.task])
    assert isinstance(trial.task.exception(), ExceptionGroup)
    assert trial.slots.in_flight == 0


def test_idle_receiver_never_deadlocks() -> None:
    async def main() -> None:
        trial = _Trial(_Backlog(10, seconds=0.0), slots=1)
        await asyncio.sleep(100)
        assert len(trial.accepted) == 10
        await trial.stop()

    try:
        run(main)
    except DeadlockError as error:  # pragma: no cover - told more clearly
        pytest.fail(str(error))


@simulated
async def test_empty_polls_are_a_second_apart_if_the_server_ignores_the_wait() -> None:
    queue = _Backlog(0, waits=False)
    trial = _Trial(queue)
    await asyncio.sleep(10)
    await trial.stop()
    assert len(queue.asked) <= 11
