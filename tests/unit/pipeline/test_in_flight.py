"""Tests of the tasks of messages in flight."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import FakeQueue, clock, received_message
from worker.domain.message import ReceivedMessage
from worker.domain.outcome import RECORDED, Outcome
from worker.pipeline.in_flight import Dispatcher, InFlight
from worker.pipeline.lease import Lease, Leases
from worker.pipeline.metrics import Accounting
from worker.pipeline.slots import Slot, Slots
from worker.pipeline.sqs_clock import SQSClock


class _Trial:
    def __init__(self) -> None:
        self.in_flight = InFlight()
        self.leases = Leases(FakeQueue().change_visibility, 120)
        self.decided = asyncio.Event()
        self.settled = asyncio.Event()
        self.cancelled = 0

    def start(self, number: int = 0) -> None:
        lease = self.leases.hold(received_message(number))
        self.in_flight.start(lease, self.process(lease))

    async def process(self, lease: Lease) -> Outcome:
        try:
            await self.decided.wait()
            self.in_flight.decided(lease)
            await self.settled.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.in_flight.finished(lease)
        return RECORDED


@simulated
async def test_wait_returns_the_tasks_that_have_not_finished() -> None:
    trial = _Trial()
    async with trial.in_flight:
        assert await trial.in_flight.wait(1.0) == set()
        trial.start()
        assert len(await trial.in_flight.wait(1.0)) == len(trial.in_flight) == 1
        trial.decided.set()
        trial.settled.set()
        assert await trial.in_flight.wait(1.0) == set()
    assert len(trial.in_flight) == 0


@simulated
async def test_only_tasks_without_an_outcome_are_cancelled() -> None:
    trial = _Trial()
    async with trial.in_flight:
        trial.start(0)
        trial.decided.set()
        await asyncio.sleep(0.01)
        trial.in_flight.cancel_undecided()
        assert trial.in_flight.out_of_time
        await asyncio.sleep(0.01)
        assert (trial.cancelled, len(trial.in_flight)) == (0, 1)
        trial.settled.set()


@simulated
async def test_end_waits_for_all_tasks() -> None:
    trial = _Trial()
    async with trial.in_flight:
        for number in range(3):
            trial.start(number)
        asyncio.get_running_loop().call_later(7, trial.decided.set)
        asyncio.get_running_loop().call_later(9, trial.settled.set)
    assert asyncio.get_running_loop().time() >= 9
    assert len(trial.in_flight) == 0


@simulated
async def test_dispatched_message_is_accounted_for_and_leased() -> None:
    trial, accounting = _Trial(), Accounting()
    sqs_clock = SQSClock(clock, asyncio.get_running_loop().time, 300)
    received: list[tuple[ReceivedMessage, Slot]] = []

    async def process(message: ReceivedMessage, lease: Lease, slot: Slot) -> Outcome:
        received.append((message, slot))
        trial.in_flight.decided(lease)
        trial.in_flight.finished(lease)
        return RECORDED

    dispatcher = Dispatcher(process, trial.in_flight, trial.leases, sqs_clock, accounting)
    message = received_message(first_received_at=START + timedelta(seconds=1))
    [slot] = await Slots(1).reserve(1)
    async with trial.in_flight:
        dispatcher.dispatch(message, slot)
        assert (accounting.received, accounting.held) == (1, 1)
        assert (len(trial.leases), len(trial.in_flight)) == (1, 1)
        assert sqs_clock.passed == message.first_received_at
    assert received == [(message, slot)]
