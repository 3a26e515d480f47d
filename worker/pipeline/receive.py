"""Receiving: polls for as many messages as there are free slots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from typing import Final

import structlog

from worker.aws.access import Operation
from worker.aws.sqs import MessageQueue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.errors import AWSError
from worker.pipeline.breaker import Breaker
from worker.pipeline.service_state import ServiceState
from worker.pipeline.slots import Slot
from worker.runtime.retry import RetryPolicy
from worker.runtime.stopping import unless_stopped

_log: Final = structlog.get_logger()
POLL_RETRIES: Final = RetryPolicy(base_seconds=0.5, cap_seconds=30.0)
# An empty long poll that returns sooner did not wait, and each poll is billed.
_EMPTY_POLL_MIN_SECONDS: Final = 1.0

Accept = Callable[[ReceivedMessage, Slot], None]
_first_received_ms: Final = attrgetter("first_received_ms")


class Receiver:
    """Pollers of the queue: concurrent under load, a single one when idle.

    Each full response adds a poller, so their number doubles with every round of full responses. A
    response that is less than half full ends one. A poll in flight is never cancelled: the messages
    that it receives would stay invisible until their visibility timeout. After a failure a single
    poller retries with backoff.

    Args:
        queue: The queue to poll.
        accept: Takes over each message with its slot.
        state: Pauses polls while the table fails or access is denied, and ends them. A poll
            requests at most as many messages as it has reserved slots.
    """

    def __init__(self, queue: MessageQueue, accept: Accept, state: ServiceState) -> None:
        self._queue = queue
        self._accept = accept
        self._state = state
        self._stopping = state.stopping
        self._access = state.access
        self._events = state.metrics.events
        self._change_visibility = state.access.observed(
            Operation.VISIBILITY, queue.change_visibility
        )
        self._wait_seconds = state.settings.wait_seconds
        self._wanted = 1
        self._further = 0
        self._pollers = asyncio.TaskGroup()

    async def run(self) -> None:
        """Poll until `stopping` is set and the polls in flight have completed."""
        async with self._pollers as pollers:
            pollers.create_task(self._close_slots())
            await self._poll_while_running()

    async def _close_slots(self) -> None:
        await self._stopping.wait()
        self._state.slots.close()

    async def _poll_while_running(self) -> None:
        failures = 0
        # Not `retry`: polling has no end but the stop, and every error is retried.
        while not self._stopping.is_set():
            started_at = self._state.clock()
            try:
                is_empty = await self._poll()
                failures = 0
            except AWSError as error:
                failures += 1
                self._poll_failed(error)
                delay = POLL_RETRIES.delay_seconds(failures)
                await unless_stopped(self._stopping, asyncio.sleep(delay))
            else:
                shortest = min(_EMPTY_POLL_MIN_SECONDS, self._wait_seconds)
                early = started_at + shortest - self._state.clock()
                if is_empty and early > 0:
                    await unless_stopped(self._stopping, asyncio.sleep(early))
            self._state.progressed()

    async def _poll_while_wanted(self) -> None:
        """Poll as long as more than one poller is wanted; any pause ends this one."""
        try:
            while self._further < self._wanted and not (self._is_paused or self._stopping.is_set()):
                await self._poll()
                self._state.progressed()
        except AWSError as error:
            self._poll_failed(error)
        finally:
            self._further -= 1

    def _poll_failed(self, error: AWSError) -> None:
        self._events["poll_failures"] += 1
        self._access.failed(Operation.RECEIVE, error)
        self._wanted = 1

    @property
    def _is_paused(self) -> bool:
        return self._access.stops_receiving or self._state.breaker.is_open

    async def _poll(self) -> bool:
        """Poll once if that is allowed now; return whether the response was empty."""
        limit = BATCH_MAX_ENTRIES
        if self._is_paused:
            self._wanted = 1
            limit = await self._limit_after_pause()
        is_probe = limit < BATCH_MAX_ENTRIES
        slots = await self._state.slots.reserve(limit) if limit else []
        try:
            # Waiting for slots may have taken long.
            paused = self._access.stops_receiving if is_probe else self._is_paused
            if slots and not paused and not self._stopping.is_set():
                return await self._receive(slots)
            return False
        finally:
            for slot in slots:
                slot.release()

    async def _limit_after_pause(self) -> int:
        """Wait while receiving is paused; return how many messages a poll may request then."""
        if self._access.stops_receiving:
            waiting = self._access.wait_for_change(Breaker.PROBE_SECONDS)
            await unless_stopped(self._stopping, waiting)
            return 0
        closed = await unless_stopped(self._stopping, self._state.breaker.wait_closed())
        if closed:
            return BATCH_MAX_ENTRIES
        # Still open: a single message probes the table, unless messages in flight do so already.
        return 0 if self._state.slots.in_flight else 1

    async def _receive(self, slots: list[Slot]) -> bool:
        messages = await self._queue.receive(
            len(slots),
            wait_seconds=self._wait_seconds,
            visibility_timeout_seconds=self._state.settings.visibility_timeout_seconds,
        )
        self._state.polled()
        self._access.succeeded(Operation.RECEIVE)
        self._events["polls"] += 1
        self._adapt(len(messages), len(slots))
        if messages:
            self._state.sqs_clock.learn(max(messages, key=_first_received_ms))
        surplus = messages[len(slots) :]
        for message in messages[: len(slots)]:
            slot = slots.pop()
            slot.fill(message.memory_bytes)
            self._accept(message, slot)
        if surplus:
            await self._return_surplus(surplus)
        return not messages

    async def _return_surplus(self, surplus: list[ReceivedMessage]) -> None:
        """Return messages to the queue that were not requested and have no slot."""
        self._events["surplus_messages"] += len(surplus)
        _log.warning("more messages received than requested", returned=len(surplus))
        for start in range(0, len(surplus), BATCH_MAX_ENTRIES):
            batch = surplus[start : start + BATCH_MAX_ENTRIES]
            with suppress(AWSError):  # they become visible again at their visibility timeout
                await self._change_visibility([(message, 0.0) for message in batch])

    def _adapt(self, received: int, requested: int) -> None:
        if received == 0:
            self._events["empty_polls"] += 1
        if received >= requested:
            useful = -(-self._state.slots.allowed // BATCH_MAX_ENTRIES)
            limit = min(self._state.settings.poll_concurrency, useful)
            self._wanted = min(limit, self._wanted + 1)
            if self._further + 1 < self._wanted and not self._stopping.is_set():
                self._further += 1
                self._pollers.create_task(self._poll_while_wanted())
        elif 2 * received < requested:
            self._wanted = max(1, self._wanted - 1)
