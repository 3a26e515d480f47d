"""Limits on messages in flight, by count and by memory."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import Final

from worker.domain.message import MESSAGE_MAX_BYTES

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

    Args:
        limit: Maximum number of messages in flight.
        limit_bytes: Maximum memory for their bodies and attributes.
        largest_bytes: MaximumMessageSize of the queue.

    Attributes:
        in_flight: Slots in use, by polls in flight or by messages.
        filled: Slots that hold a message.
        bytes_in_flight: Actual or expected size of the messages in flight.
    """

    def __init__(
        self, limit: int, limit_bytes: float = inf, largest_bytes: int = MESSAGE_MAX_BYTES
    ) -> None:
        self.limit = limit
        self.limit_bytes = limit_bytes
        self.in_flight = 0
        self.filled = 0
        self.bytes_in_flight = 0
        self._expected_bytes: float = largest_bytes
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self.limit - self.in_flight

    async def reserve(self, limit: int) -> list[Slot]:
        """Reserve up to `limit` slots.

        Wait until `limit` slots are free (or half of all slots if there are fewer), so that every
        poll is worth its API call.
        """
        while not (count := self._available(limit)):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake_next()  # pass the turn on
                raise
        expected_bytes = int(self._expected_bytes)
        self.in_flight += count
        self.bytes_in_flight += count * expected_bytes
        self._wake_next()
        return [Slot(self, expected_bytes) for _ in range(count)]

    def _available(self, limit: int) -> int:
        """Return how many slots a poll may reserve now; 0 if too few are free."""
        least = max(1, min(limit, self.limit // 2))
        if self.free < least:
            return 0
        if not self.in_flight:
            return min(limit, self.free, max(1, self._fitting(self.limit_bytes)))
        least = min(least, max(1, self._fitting(self.limit_bytes / 2)))
        fitting = self._fitting(self.limit_bytes - self.bytes_in_flight)
        return min(limit, self.free, fitting) if fitting >= least else 0

    def _fitting(self, size_bytes: float) -> int:
        """Return how many messages of the expected size fit into this much memory."""
        return int(min(self.limit, size_bytes / self._expected_bytes))

    def _fill(self, size_bytes: int, reserved_bytes: int) -> None:
        self.filled += 1
        self.bytes_in_flight += size_bytes - reserved_bytes
        self._expected_bytes = max(size_bytes, self._expected_bytes * _EXPECTED_DECAY)
        if size_bytes < reserved_bytes:
            self._wake_next()

    def _release(self, size_bytes: int, *, filled: bool) -> None:
        self.in_flight -= 1
        self.filled -= filled
        self.bytes_in_flight -= size_bytes
        self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
