"""The one bound on what is in flight."""

from __future__ import annotations

import asyncio
from collections import deque
from types import TracebackType
from typing import Self


class Slot:
    """The right to hold one message; an `async with` gives it back."""

    __slots__ = ("_slots",)

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots

    def release(self) -> None:
        """Give the slot back; a second time changes nothing."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots._release()  # noqa: SLF001 - one room, two parts

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
    """A fixed number of slots.

    Args:
        limit: how many messages may be in flight.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()

    @property
    def free(self) -> int:
        """How many slots nobody holds."""
        return self.limit - self.in_flight

    async def reserve(self, most: int) -> list[Slot]:
        """Take up to `most` slots, waiting until enough are free to make a poll worth its price.

        Enough are `most`, or half of all where there are few.
        """
        least = max(1, min(most, self.limit // 2))
        while self.free < least:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self._wake_next()  # the turn that we were given is somebody else's
                raise
        taken = min(most, self.free)
        self.in_flight += taken
        self._wake_next()
        return [Slot(self) for _ in range(taken)]

    def _release(self) -> None:
        self.in_flight -= 1
        self._wake_next()

    def _wake_next(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
