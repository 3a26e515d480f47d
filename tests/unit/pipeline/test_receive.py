"""Tests of polls: limited by the free slots, and never cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
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
        self.most_received = 1000
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
            count = min(self.backlog, max_messages, self.most_received)
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


class _RunningReceiver:
    """Running receiver whose messages hold their slots for `hold_seconds`."""

    def __init__(
        self,
        queue: _Backlog,
        *,
        slots: int = 500,
        concurrency: int = 8,
        limit_bytes: float = 64 * 1_048_576,
        hold_seconds: float = 0.0,
    ) -> None:
        self.queue = queue
        self.slots = Slots(slots, limit_bytes)
        self.accepted: list[ReceivedMessage] = []
        self.hold_seconds = hold_seconds
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

    def open_breaker(self) -> None:
        for _ in range(Breaker.FAILURES):
            self.breaker.failed()

    def deny_deletes(self) -> None:
        self.access.failed(Operation.DELETE, AWSDeniedError("no"))

    async def stop(self) -> None:
        self.stopping.set()
        await self.task
        assert self.queue.cancelled == 0
        assert len(self.accepted) == self.queue.handed_out
        assert self.slots.in_flight == 0


@simulated
async def test_single_poll_when_idle() -> None:
    running = _RunningReceiver(_Backlog(0))
    await asyncio.sleep(600)
    assert running.queue.most_polling == 1
    assert 25 <= len(running.queue.asked) <= 30
    await running.stop()


@simulated
async def test_polls_are_concurrent_under_load_only() -> None:
    running = _RunningReceiver(_Backlog(3000))
    await asyncio.sleep(3)
    assert running.queue.most_polling == 8
    await asyncio.sleep(300)
    assert len(running.accepted) == 3000
    running.queue.most_polling = running.queue.polling
    await asyncio.sleep(300)
    assert running.queue.most_polling == 1
    await running.stop()


@simulated
async def test_messages_in_flight_never_exceed_the_slots() -> None:
    running = _RunningReceiver(_Backlog(1000), slots=30, hold_seconds=3.0)
    await asyncio.sleep(60)
    assert running.most_in_flight == 30
    assert max(running.queue.asked) == 10
    await asyncio.sleep(300)
    await running.stop()


@simulated
async def test_no_poll_without_free_slots() -> None:
    running = _RunningReceiver(_Backlog(1000), slots=20, hold_seconds=10_000.0)
    await asyncio.sleep(500)
    assert running.queue.handed_out == 20
    assert running.queue.polling == 0
    assert len(running.queue.asked) <= 4
    running.stopping.set()
    await running.task


@simulated
async def test_poll_requests_at_most_as_many_messages_as_its_slots() -> None:
    running = _RunningReceiver(_Backlog(1000), slots=3, hold_seconds=1.0)
    await asyncio.sleep(20)
    assert set(running.queue.asked) <= {1, 2, 3}
    assert running.most_in_flight <= 3
    running.queue.backlog = 0
    await asyncio.sleep(5)
    await running.stop()


@simulated
async def test_stop_waits_for_the_poll_in_flight_and_accepts_its_messages() -> None:
    running = _RunningReceiver(_Backlog(0))
    await asyncio.sleep(5)
    running.stopping.set()
    running.queue.backlog = 7
    await running.stop()
    assert len(running.accepted) == 7
    assert asyncio.get_running_loop().time() == pytest.approx(20, abs=0.2)


@simulated
async def test_no_poll_starts_after_a_stop() -> None:
    running = _RunningReceiver(_Backlog(10_000))
    await asyncio.sleep(1)
    running.stopping.set()
    await asyncio.sleep(0)
    asked = len(running.queue.asked)
    await running.stop()
    assert len(running.queue.asked) == asked


@pytest.mark.parametrize("milliseconds", range(0, 400, 20))
def test_stop_at_any_moment_leaves_no_message_unaccepted(milliseconds: int) -> None:
    async def main() -> None:
        running = _RunningReceiver(_Backlog(200), slots=30, hold_seconds=0.1)
        await asyncio.sleep(milliseconds / 1000)
        running.stopping.set()
        await running.task
        await asyncio.sleep(1)
        await running.stop()

    run(main)


@simulated
async def test_failed_poll_is_retried_with_backoff() -> None:
    queue = _Backlog(5)
    queue.errors = [AWSUnavailableError("down")] * 6
    running = _RunningReceiver(queue)
    await asyncio.sleep(200)
    assert len(running.accepted) == 5
    assert running.events["poll_failures"] == 6
    assert running.state.failure is None
    await running.stop()


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
    running = _RunningReceiver(queue, concurrency=1)
    await asyncio.sleep(30)
    assert not running.task.done()
    returned = queue.entries("change")
    assert len(running.accepted) == 40
    assert len(returned) == running.events["surplus_messages"] == 80
    assert {seconds for _, seconds in returned} == {0.0}
    ids = [each.message_id for each in running.accepted] + [each.message_id for each, _ in returned]
    assert len(set(ids)) == 120
    assert all(len(batch) <= 10 for batch in queue.of("change"))
    queue.handed_out -= len(returned)
    await running.stop()


@simulated
async def test_failing_polls_are_rare() -> None:
    queue = _Backlog(0)
    queue.errors = [AWSUnavailableError("down")] * 10_000
    running = _RunningReceiver(queue)
    await asyncio.sleep(3600)
    assert len(queue.asked) < 600
    queue.errors.clear()
    await running.stop()


@simulated
async def test_long_denial_by_the_queue_ends_the_service() -> None:
    queue = _Backlog(0)
    queue.errors = [AWSDeniedError("no")] * 10_000
    running = _RunningReceiver(queue)
    await asyncio.sleep(290)
    assert not running.stopping.is_set()
    await asyncio.sleep(100)
    assert running.state.failure is not None
    await running.stop()


@simulated
async def test_only_probes_are_received_while_the_table_fails() -> None:
    running = _RunningReceiver(_Backlog(1000), hold_seconds=2.0)
    running.open_breaker()
    await asyncio.sleep(61)
    # One message each 15 s, and only where none is held: receive counts are not used up.
    assert running.queue.asked == [1] * 4
    running.breaker.succeeded()
    await asyncio.sleep(30)
    assert running.queue.handed_out == 1000
    await running.stop()


@simulated
async def test_no_message_is_received_while_settling_is_denied() -> None:
    running = _RunningReceiver(_Backlog(1000))
    running.deny_deletes()
    await asyncio.sleep(600)
    assert running.queue.asked == []
    assert running.state.why_not_live() == []
    running.access.succeeded(Operation.DELETE)
    await asyncio.sleep(30)
    assert running.queue.handed_out == 1000
    await running.stop()


@simulated
async def test_poll_waiting_for_slots_does_not_start_once_access_is_denied() -> None:
    running = _RunningReceiver(_Backlog(1000), slots=10, hold_seconds=50.0)
    await asyncio.sleep(1)
    running.deny_deletes()
    await asyncio.sleep(300)
    assert running.queue.handed_out == 10
    await running.stop()


@pytest.mark.parametrize("pause", [_RunningReceiver.open_breaker, _RunningReceiver.deny_deletes])
@simulated
async def test_stop_does_not_wait_while_receiving_is_paused(
    pause: Callable[[_RunningReceiver], None],
) -> None:
    running = _RunningReceiver(_Backlog(0))
    pause(running)
    await asyncio.sleep(50)
    stopped_at = asyncio.get_running_loop().time()
    await running.stop()
    assert asyncio.get_running_loop().time() - stopped_at < 0.1


@simulated
async def test_no_probe_is_received_while_messages_are_in_flight() -> None:
    running = _RunningReceiver(_Backlog(1000), slots=10, hold_seconds=5000.0)
    await asyncio.sleep(1)
    running.open_breaker()
    asked = len(running.queue.asked)
    await asyncio.sleep(600)
    assert len(running.queue.asked) == asked
    running.stopping.set()
    await running.task


@simulated
async def test_time_of_the_last_poll_is_kept() -> None:
    running = _RunningReceiver(_Backlog(0))
    await asyncio.sleep(30)
    assert running.state.polled_at == pytest.approx(20, abs=0.2)
    await running.stop()


@simulated
async def test_single_poll_during_an_outage_and_all_afterwards() -> None:
    queue = _Backlog(100_000)
    running = _RunningReceiver(queue)
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
    await running.stop()


@simulated
async def test_failed_poll_leaves_one_poller_until_a_response_is_full() -> None:
    queue = _Backlog(100_000)
    running = _RunningReceiver(queue)
    await asyncio.sleep(1)
    queue.most_received = 7  # neither full nor nearly empty: no reason for more or fewer polls
    await asyncio.sleep(1)
    queue.most_polling = 0
    await asyncio.sleep(1)
    assert queue.most_polling == 8
    queue.errors = [AWSUnavailableError("down")]
    await asyncio.sleep(5)
    queue.most_polling = 0
    await asyncio.sleep(5)
    assert queue.most_polling == 1
    queue.most_received = 1000
    await asyncio.sleep(1)
    assert queue.most_polling == 8
    queue.backlog = 0
    await asyncio.sleep(1)
    await running.stop()


@simulated
async def test_polls_of_large_messages_respect_the_memory_limit() -> None:
    queue = _Backlog(300)
    queue.body = "x" * 1_000_000
    running = _RunningReceiver(queue, limit_bytes=16_000_000, hold_seconds=1.0)
    await asyncio.sleep(60)
    assert len(running.accepted) == 300
    assert 10_000_000 < running.most_bytes <= 16_000_000
    await running.stop()
    assert running.slots.bytes_in_flight == 0


@simulated
async def test_unexpected_error_in_a_poll_ends_the_receiver() -> None:
    queue: Any = _Backlog(5)
    queue.errors = [ZeroDivisionError()]
    running = _RunningReceiver(queue)
    await asyncio.wait([running.task])
    assert isinstance(running.task.exception(), ExceptionGroup)
    assert running.slots.in_flight == 0


def test_idle_receiver_never_deadlocks() -> None:
    async def main() -> None:
        running = _RunningReceiver(_Backlog(10, seconds=0.0), slots=1)
        await asyncio.sleep(100)
        assert len(running.accepted) == 10
        await running.stop()

    try:
        run(main)
    except DeadlockError as error:  # pragma: no cover - a clearer message
        pytest.fail(str(error))


@simulated
async def test_empty_polls_are_a_second_apart_if_the_server_ignores_the_wait() -> None:
    queue = _Backlog(0, waits=False)
    running = _RunningReceiver(queue)
    await asyncio.sleep(10)
    await running.stop()
    assert len(queue.asked) <= 11
