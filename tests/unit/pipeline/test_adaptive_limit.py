"""Tests of the adaptive limit of messages in flight, on a simulated core and simulated latency."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.virtual_clock import simulated
from worker.pipeline.adaptive_limit import SMALLEST_LIMIT, adjusted
from worker.pipeline.slots import Slot, Slots

_CPU_SECONDS = 0.0001  # at most 10,000 messages per second


class _Load:
    """Polls with a backlog whose messages need latency, then the one core.

    Attributes:
        cpu_seconds: Time of the core for each message.
        latency_seconds: Latency of all calls for one message together.
        backlog: Messages left in the queue.
        settled: Messages settled.
        held_seconds: Time for which the last message was held.
    """

    def __init__(self, limit: int = 3000, limit_bytes: float = 64 * 2**20, **sizes: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._busy = 0.0
        self._busy_until = 0.0
        self.cpu_seconds = _CPU_SECONDS
        self.slots = Slots(limit, limit_bytes, busy_seconds=self._busy_seconds, **sizes)
        self.latency_seconds = 0.02
        self.backlog = 10**9
        self.settled = 0
        self.held_seconds = 0.0
        self.message_bytes = 400
        self.extra_seconds: Callable[[], float] = lambda: 0.0
        self._arrival = asyncio.Event()
        self._arrival.set()
        self._polls = [asyncio.create_task(self._poll()) for _ in range(limit // 10 or 1)]

    def _busy_seconds(self) -> float:
        """Return the used time of the core, up to now."""
        return self._busy - max(0.0, self._busy_until - self._loop.time())

    async def _poll(self) -> None:
        while True:
            await self._arrival.wait()
            slots = await self.slots.reserve(10)
            taken = min(self.backlog, len(slots))
            self.backlog -= taken
            if not self.backlog:
                self._arrival.clear()
            for slot in slots[taken:]:
                slot.release()
            for slot in slots[:taken]:
                slot.fill(self.message_bytes)
                delay = self.latency_seconds + self.extra_seconds()
                self._loop.call_later(delay, self._compute, slot, self._loop.time())

    def _compute(self, slot: Slot, since: float) -> None:
        self._busy_until = max(self._busy_until, self._loop.time()) + self.cpu_seconds
        self._busy += self.cpu_seconds
        self._loop.call_at(self._busy_until, self._settle, slot, since)

    def _settle(self, slot: Slot, since: float) -> None:
        self.settled += 1
        self.held_seconds = self._loop.time() - since
        slot.release()

    def offer(self, messages: int) -> None:
        self.backlog += messages
        self._arrival.set()

    async def rate(self, seconds: float) -> float:
        """Return the messages settled per second in the next seconds."""
        before = self.settled
        await asyncio.sleep(seconds)
        return (self.settled - before) / seconds

    async def stop(self) -> None:
        self.backlog = 0
        for poll in self._polls:
            poll.cancel()
        await asyncio.gather(*self._polls, return_exceptions=True)
        await asyncio.sleep(60)
        assert (self.slots.in_flight, self.slots.bytes_in_flight) == (0, 0)


@pytest.mark.parametrize(
    ("limit", "busy_share", "expected"),
    [
        (100, 0.0, 200),
        (100, 0.485, 200),
        (1000, 0.9, 1077),
        (2000, 0.1, 3000),
        (100, 0.969, 101),
        (500, 0.98, 500),
        (1000, 0.99, 950),
        (1000, 1.2, 950),
        (SMALLEST_LIMIT, 1.0, SMALLEST_LIMIT),
    ],
)
def test_limit_follows_the_idle_time(limit: int, busy_share: float, expected: int) -> None:
    assert adjusted(limit, busy_share, 3000) == expected


def test_limit_never_exceeds_a_small_maximum() -> None:
    assert adjusted(7, 0.0, 7) == adjusted(7, 1.0, 7) == 7


@pytest.mark.parametrize("latency_seconds", [0.001, 0.02, 0.15])
@simulated
async def test_limit_reaches_full_throughput_without_a_long_queue(latency_seconds: float) -> None:
    load = _Load()
    load.latency_seconds = latency_seconds
    await asyncio.sleep(10)
    assert await load.rate(2) >= 9_600
    # Time on the core included: at least `SMALLEST_LIMIT` messages are held.
    assert load.held_seconds <= max(1.3 * latency_seconds, SMALLEST_LIMIT * _CPU_SECONDS + 0.002)
    await load.stop()


@simulated
async def test_limit_follows_a_step_of_latency_up_and_down() -> None:
    load = _Load()
    load.latency_seconds = 0.01
    await asyncio.sleep(5)
    low = load.slots.allowed
    assert low < 200
    load.latency_seconds = 0.2
    await asyncio.sleep(2)
    assert await load.rate(2) >= 9_600
    assert load.slots.allowed >= 2000
    load.latency_seconds = 0.01
    await asyncio.sleep(10)
    assert await load.rate(2) >= 9_600
    assert load.slots.allowed <= 1.3 * low
    assert load.held_seconds < 0.02
    await load.stop()


@simulated
async def test_burst_after_idle_needs_no_further_adjustment() -> None:
    load = _Load()
    load.latency_seconds = 0.1
    await asyncio.sleep(5)
    load.backlog = 0
    await asyncio.sleep(600)
    assert load.slots.in_flight == 0
    load.offer(20_000)
    assert await load.rate(1.0) >= 8_500
    await load.stop()


@simulated
async def test_held_messages_of_a_throttled_table_do_not_stop_the_others() -> None:
    load = _Load()
    load.cpu_seconds = 0.0005  # to simulate few messages
    turn = iter(range(10**9))
    # Half of the slots are held for 30 s.
    load.extra_seconds = lambda: 30.0 if next(turn) % 40 == 0 else 0.0
    for _ in range(60):
        before = load.settled
        await asyncio.sleep(1)
        assert load.settled > before
        assert load.slots.allowed >= SMALLEST_LIMIT
    load.extra_seconds = lambda: 0.0
    await asyncio.sleep(40)
    assert await load.rate(2) >= 1_920
    assert load.held_seconds < load.latency_seconds + SMALLEST_LIMIT * load.cpu_seconds
    await load.stop()


@simulated
async def test_one_slow_message_does_not_change_the_limit() -> None:
    load = _Load()
    await asyncio.sleep(5)
    before = load.slots.allowed
    slow = iter([30.0])
    load.extra_seconds = lambda: next(slow, 0.0)
    assert await load.rate(5) >= 9_600
    assert load.slots.allowed == pytest.approx(before, rel=0.1)
    await load.stop()


@simulated
async def test_memory_limit_holds_while_the_limit_grows() -> None:
    load = _Load(limit_bytes=10 * 2**20)
    load.message_bytes = 50_000
    load.latency_seconds = 0.15
    for _ in range(50):
        await asyncio.sleep(0.1)
        assert load.slots.bytes_in_flight <= load.slots.limit_bytes
    assert load.slots.allowed == 3000
    assert 150 <= load.slots.filled <= 209
    await load.stop()


@simulated
async def test_nothing_is_measured_while_the_slots_suffice() -> None:
    load = _Load()
    load.backlog = 0
    await asyncio.sleep(1)
    measured = asyncio.get_running_loop().time()
    assert load.slots._adjusting is None
    assert load.slots.allowed == SMALLEST_LIMIT
    assert asyncio.get_running_loop().time() == measured
    await load.stop()
