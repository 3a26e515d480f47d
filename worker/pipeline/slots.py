"""Limits on messages in flight, by count and by memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final

from worker.domain.message import MESSAGE_MAX_BYTES
from worker.pipeline.adaptive_limit import ADJUST_SECONDS, SMALLEST_LIMIT, adjusted

# Decay of the expected message size with each smaller message.
_EXPECTED_DECAY: Final = 0.98


class Slot:
    """Permission to hold one message, until it is released."""

    __slots__ = ("_bytes", "_filled", "_slots")

    def __init__(self, slots: Slots, reserved_bytes: int) -> None:
        self._slots: Slots | None = slots
        self._bytes = reserved_bytes
        self._filled = False

    def fill(self, size_bytes: int) -> None:
        """Account for the message that was received, in place of the expected size."""
        if self._slots is not None:
            self._slots._fill(size_bytes, self._bytes)  # noqa: SLF001 - a slot is part of its Slots
            self._bytes = size_bytes
            self._filled = True

    def release(self) -> None:
        """Release the slot; later calls have no effect."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release(self._bytes, filled=self._filled)  # noqa: SLF001 - the same


class Slots:
    """Limits on the number and the total size of messages in flight.

    Message sizes are unknown until a receive returns, so each poll reserves the largest size seen
    recently (at first the maximum of the queue). The memory limit can be exceeded only when sizes
    suddenly grow, and only by the polls in flight at that moment.

    With `busy_seconds`, no more slots are in use than keep the event loop busy: more would not
    raise the throughput, only the time for which each message is held.

    Args:
        limit: Maximum number of messages in flight.
        limit_bytes: Maximum memory for their bodies and attributes.
        largest_bytes: MaximumMessageSize of the queue.
        busy_seconds: Returns the total time in which the event loop was not idle; by default all
            slots may be in use at any time.

    Attributes:
        allowed: Slots that may be in use now, at most `limit`.
        in_flight: Slots in use, by polls in flight or by messages.
        filled: Slots that hold a message.
        bytes_in_flight: Actual or expected size of the messages in flight.
    """

    def __init__(
        self,
        limit: int,
        limit_bytes: float = inf,
        largest_bytes: int = MESSAGE_MAX_BYTES,
        *,
        busy_seconds: Callable[[], float] | None = None,
    ) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.allowed = limit if busy_seconds is None else min(limit, SMALLEST_LIMIT)
        self.in_flight = 0
        self.filled = 0
        self.bytes_in_flight = 0
        self._expected_bytes: float = largest_bytes
        self._waiters: deque[tuple[int, asyncio.Future[list[Slot]]]] = deque()
        self._is_serving = False
        self._closed = False
        self._busy_seconds = busy_seconds
        self._adjusting: asyncio.TimerHandle | None = None
        self._has_waited = False

    @property
    def free(self) -> int:
        """Number of free slots, whether or not they may be in use now."""
        return self.limit - self.in_flight

    async def reserve(self, limit: int) -> list[Slot]:
        """Reserve up to `limit` slots.

        Wait until `limit` slots are free (or half of the allowed slots if there are fewer), so that
        every poll is worth its API call. Waiting polls are served in order.

        Returns:
            The slots; none after `close`.
        """
        if self._closed:
            return []
        if not self._waiters and (count := self._available(limit)):
            return self._take(count)
        waiter: asyncio.Future[list[Slot]] = asyncio.get_running_loop().create_future()
        self._waiters.append((limit, waiter))
        self._has_waited = True
        self._schedule_adjustment()
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():
                for slot in waiter.result():
                    slot.release()
            self._serve_waiters()
            raise

    def close(self) -> None:
        """End every wait: waiting and later reservations get no slots."""
        self._closed = True
        while self._waiters:
            _, waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result([])
        if self._adjusting is not None:
            self._adjusting.cancel()

    def _take(self, count: int) -> list[Slot]:
        expected_bytes = int(self._expected_bytes)
        self.in_flight += count
        self.bytes_in_flight += count * expected_bytes
        return [Slot(self, expected_bytes) for _ in range(count)]

    def _available(self, limit: int) -> int:
        """Return how many slots a poll may reserve now; 0 if too few are free."""
        free = self.allowed - self.in_flight
        least = max(1, min(limit, self.allowed // 2))
        if free < least:
            return 0
        if not self.in_flight:
            return min(limit, free, max(1, self._fitting(self.limit_bytes)))
        least = min(least, max(1, self._fitting(self.limit_bytes / 2)))
        fitting = self._fitting(self.limit_bytes - self.bytes_in_flight)
        return min(limit, free, fitting) if fitting >= least else 0

    def _fitting(self, size_bytes: float) -> int:
        """Return how many messages of the expected size fit into this much memory."""
        return int(min(self.limit, size_bytes / self._expected_bytes))

    def _fill(self, size_bytes: int, reserved_bytes: int) -> None:
        self.filled += 1
        self.bytes_in_flight += size_bytes - reserved_bytes
        self._expected_bytes = max(size_bytes, self._expected_bytes * _EXPECTED_DECAY)
        if self._waiters and size_bytes < reserved_bytes and not self._is_serving:
            self._serve_soon()

    def _release(self, size_bytes: int, *, filled: bool) -> None:
        self.in_flight -= 1
        self.filled -= filled
        self.bytes_in_flight -= size_bytes
        if self._waiters and not self._is_serving:
            self._serve_soon()

    def _serve_soon(self) -> None:
        """Serve the waiting polls once for all slots released in this iteration of the loop."""
        self._is_serving = True
        asyncio.get_running_loop().call_soon(self._serve_waiters)

    def _serve_waiters(self) -> None:
        self._is_serving = False
        while self._waiters:
            limit, waiter = self._waiters[0]
            if not waiter.done():
                count = self._available(limit)
                if not count:
                    return
                waiter.set_result(self._take(count))
            self._waiters.popleft()

    def _schedule_adjustment(self) -> None:
        """Measure from now on how busy the event loop is, unless that is done already."""
        busy_seconds = self._busy_seconds
        if busy_seconds is None or self._adjusting is not None:
            return
        loop = asyncio.get_running_loop()
        self._has_waited = bool(self._waiters)
        self._adjusting = loop.call_later(
            ADJUST_SECONDS, self._adjust, busy_seconds, loop.time(), busy_seconds()
        )

    def _adjust(self, busy_seconds: Callable[[], float], since: float, busy_since: float) -> None:
        seconds = asyncio.get_running_loop().time() - since
        busy_share = (busy_seconds() - busy_since) / seconds
        self._adjusting = None
        if not self._has_waited:
            return  # the slots suffice; the next wait measures again
        self.allowed = adjusted(self.allowed, busy_share, self.limit)
        self._serve_waiters()
        self._schedule_adjustment()
