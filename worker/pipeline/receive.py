"""The stage that polls, for no more than there is room for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import structlog

from worker.aws.access import Operation
from worker.aws.sqs import MessageQueue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.errors import AWSError
from worker.pipeline.access_watch import AccessWatch
from worker.pipeline.breaker import Breaker
from worker.pipeline.health import Health
from worker.pipeline.slots import Slot, Slots
from worker.runtime.backoff import full_jitter
from worker.runtime.stopping import unless_stopped

_log: Final = structlog.get_logger()
_RETRY_BASE_SECONDS: Final = 0.5
_RETRY_CAP_SECONDS: Final = 30.0
# A long poll that is empty sooner was none: the server ignores the wait, and each poll is billed.
_EMPTY_POLL_MIN_SECONDS: Final = 1.0

Accept = Callable[[ReceivedMessage, Slot], None]


class Receiver:
    """Poll with overlap under load and one poll at a time when idle.

    A full answer doubles the polls under way, an empty one takes one of them away. A poll that has
    begun is always awaited: what it hands out would else be stranded until its visibility ends.
    After a failure one poll at a time tries on, with backoff.

    Args:
        queue: what is polled.
        slots: room for messages; a poll asks for no more than it has reserved.
        accept: takes each delivery with its slot.
        breaker: keeps polls back while the table fails.
        access: observes every poll, and keeps polls back while messages cannot be settled.
        health: told of every turn and every answer.
        stopping: set when no new poll may begin.
        concurrency: polls under way at most.
        wait_seconds: how long a poll waits for a message.
        visibility_timeout_seconds: the lease on what it hands out.
        events: where polls are counted.
    """

    def __init__(  # noqa: PLR0913 - wiring, named at its one call
        self,
        queue: MessageQueue,
        slots: Slots,
        accept: Accept,
        *,
        breaker: Breaker,
        access: AccessWatch,
        health: Health,
        stopping: asyncio.Event,
        concurrency: int,
        wait_seconds: int,
        visibility_timeout_seconds: int,
        events: Counter[str],
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._accept = accept
        self._breaker = breaker
        self._access = access
        self._change_visibility = access.observed(Operation.VISIBILITY, queue.change_visibility)
        self._health = health
        self._stopping = stopping
        self._concurrency = concurrency
        self._wait_seconds = wait_seconds
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._events = events
        self._clock = asyncio.get_running_loop().time
        self._wanted = 1
        self._wake = [asyncio.Event() for _ in range(concurrency)]

    async def run(self) -> None:
        """Poll until `stopping` is set and the polls under way have ended."""
        async with asyncio.TaskGroup() as pollers:
            for index in range(self._concurrency):
                pollers.create_task(self._poller(index))

    async def _poller(self, index: int) -> None:
        failures = 0
        while not self._stopping.is_set():
            if index >= self._wanted:
                self._wake[index].clear()
                await unless_stopped(self._stopping, self._wake[index].wait())
                continue
            began_at = self._clock()
            try:
                is_empty = await self._poll(index)
                failures = 0
            except AWSError as error:
                failures += 1
                self._events["poll_failures"] += 1
                self._access.failed(Operation.RECEIVE, error)
                self._wanted = 1
                delay = full_jitter(
                    failures, base_seconds=_RETRY_BASE_SECONDS, cap_seconds=_RETRY_CAP_SECONDS
                )
                await unless_stopped(self._stopping, asyncio.sleep(delay))
            else:
                early = began_at + min(_EMPTY_POLL_MIN_SECONDS, self._wait_seconds) - self._clock()
                if is_empty and early > 0:
                    await unless_stopped(self._stopping, asyncio.sleep(early))
            self._health.progressed()

    async def _poll(self, index: int) -> bool:
        """Poll once, if that is admitted; return whether the response held no message."""
        most = await self._admitted(index)
        if not most:
            return False
        slots = await unless_stopped(self._stopping, self._slots.reserve(most))
        if slots is None:
            return False
        try:
            # Slots may have been awaited for long.
            if not self._stopping.is_set() and not self._access.stops_receiving:
                return await self._receive(slots)
            return False
        finally:
            for slot in slots:
                slot.release()

    async def _admitted(self, index: int) -> int:
        """Return how many messages may be asked for now."""
        if self._access.stops_receiving:
            waiting = self._access.wait_for_change(Breaker.PROBE_SECONDS)
            await unless_stopped(self._stopping, waiting)
            return 0
        if not self._breaker.is_open:
            return BATCH_MAX_ENTRIES
        closed = await unless_stopped(self._stopping, self._breaker.admit())
        if closed:
            return BATCH_MAX_ENTRIES
        # Still open: a single message probes the table, unless held ones do so already.
        return 1 if index == 0 and self._slots.in_flight == 0 else 0

    async def _receive(self, slots: list[Slot]) -> bool:
        messages = await self._queue.receive(
            len(slots),
            wait_seconds=self._wait_seconds,
            visibility_timeout_seconds=self._visibility_timeout_seconds,
        )
        self._health.polled()
        self._access.succeeded(Operation.RECEIVE)
        self._events["polls"] += 1
        self._adapt(len(messages), len(slots))
        surplus = messages[len(slots) :]
        for message in messages[: len(slots)]:
            slot = slots.pop()
            slot.fill(message.memory_bytes)
            self._accept(message, slot)
        if surplus:
            await self._hand_back(surplus)
        return not messages

    async def _hand_back(self, surplus: list[ReceivedMessage]) -> None:
        """Return messages that were not asked for; there is no slot for them."""
        self._events["surplus_messages"] += len(surplus)
        _log.warning("more messages received than requested", returned=len(surplus))
        for start in range(0, len(surplus), BATCH_MAX_ENTRIES):
            batch = surplus[start : start + BATCH_MAX_ENTRIES]
            with suppress(AWSError):  # they reappear all the same when their visibility ends
                await self._change_visibility([(message, 0.0) for message in batch])

    def _adapt(self, received: int, asked: int) -> None:
        if received == 0:
            self._events["empty_polls"] += 1
            self._wanted = max(1, self._wanted - 1)
        elif received >= asked:
            self._wanted = min(self._concurrency, self._wanted * 2)
            for wake in self._wake[: self._wanted]:
                wake.set()
