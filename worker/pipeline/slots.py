"""The one bound on what is in flight, in messages and in memory."""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from types import TracebackType
from typing import Final, Self

from worker.domain.message import MESSAGE_MAX_BYTES

# How quickly the size that a poll must expect falls, with each message that is smaller.
_EXPECTED_DECAY: Final = 0.98


class Slot:
    """The right to hold one message; an `async with` gives it back."""

    __slots__ = ("_bytes", "_filled", "_slots")

    def __init__(self, slots: Slots, allowed_bytes: int) -> None:
        self._slots: Slots | None = slots
        self._bytes = allowed_bytes
        self._filled = False

    def fill(self, size_bytes: int) -> None:
        """Hold a message of this size, in the place of one of the size that was expected."""
        if self._slots is not None:
            self._slots._fill(size_bytes, self._bytes)  # noqa: SLF001 - one room, two parts
            self._bytes = size_bytes
            self._filled = True

    def release(self) -> None:
        """Give the slot back; a second time changes nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release(self._bytes, filled=self._filled)  # noqa: SLF001 - the same

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


class Slots:
    """A fixed number of slots, and a bound on the memory of what they hold.

    A poll does not know how large the messages are that it will bring. It sets aside for each the
    largest size met lately, and at first the largest that the queue takes; so only a sudden change
    from small messages to large ones can exceed the bound, by what the polls then under way bring.

    Args:
        limit: how many messages may be in flight.
        limit_bytes: how much memory their bodies and attributes may take.
        largest_bytes: MaximumMessageSize of the queue.

    Attributes:
        in_flight: slots taken, for polls under way or for messages.
        filled: slots that hold a message.
        bytes_in_flight: what the messages take, or are expected to.
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
        """How many slots nobody holds."""
        return self.limit - self.in_flight

    async def reserve(self, most: int) -> list[Slot]:
        """Take up to `most` slots, waiting until enough are free to make a poll worth its price.

        Enough are `most`, or half of all where there are few.
        """
        while not (taken := self._takeable(most)):
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake_next()  # the turn that we were given is somebody else's
                raise
        each = int(self._expected_bytes)
        self.in_flight += taken
        self.bytes_in_flight += taken * each
        self._wake_next()
        return [Slot(self, each) for _ in range(taken)]

    def _takeable(self, most: int) -> int:
        """How many a poll may take now; none where too few are free."""
        least = max(1, min(most, self.limit // 2))
        if self.free < least:
            return 0
        if not self.in_flight:
            return min(most, self.free, max(1, self._fitting(self.limit_bytes)))
        least = min(least, max(1, self._fitting(self.limit_bytes / 2)))
        fitting = self._fitting(self.limit_bytes - self.bytes_in_flight)
        return min(most, self.free, fitting) if fitting >= least else 0

    def _fitting(self, size_bytes: float) -> int:
        """How many messages of the size that must be expected have room."""
        return int(min(self.limit, size_bytes / self._expected_bytes))

    def _fill(self, size_bytes: int, allowed_bytes: int) -> None:
        self.filled += 1
        self.bytes_in_flight += size_bytes - allowed_bytes
        self._expected_bytes = max(size_bytes, self._expected_bytes * _EXPECTED_DECAY)
        if size_bytes < allowed_bytes:
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
