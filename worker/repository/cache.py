"""Read-through cache with a TTL, one read per key and negative caching."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

from worker.errors import AWSError

ValueT = TypeVar("ValueT")
_NO_ENTRY: Final = (None, -math.inf)


class ReadThroughCache(Generic[ValueT]):
    """Cache of values and of absences that reads each key once for all concurrent callers.

    An expired value is returned when the read that should refresh it fails: published policies do
    not change, so a stale one is better than none. Only texts are added; `recheck` finds these.

    Args:
        read: Reads one key; returns None if the key has no value.
        seconds: TTL of a value.
        absence_seconds: TTL of an absence.
        max_entries: Maximum number of entries; the least recently used is evicted.
    """

    def __init__(
        self,
        read: Callable[..., Awaitable[ValueT | None]],
        seconds: float,
        absence_seconds: float,
        max_entries: int = 10_000,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._absence_seconds = absence_seconds
        self._max_entries = max_entries
        # Looking up the running loop takes a system call.
        self._clock = asyncio.get_running_loop().time
        # Each with the time of the loop's clock at which it was read.
        self._entries: OrderedDict[Hashable, tuple[ValueT | None, float]] = OrderedDict()
        self._reading: dict[Hashable, asyncio.Task[ValueT | None]] = {}

    def known(self, *key: str) -> ValueT | None:
        """Return the value of a key if it is cached and has not expired; read nothing."""
        value, read_at = self._entries.get(key, _NO_ENTRY)
        if value is None or self._clock() >= read_at + self._seconds:
            return None
        self._entries.move_to_end(key)
        return value

    async def get(self, *key: str, recheck: bool = False) -> ValueT | None:
        """Return the value of a key, reading it if it is not cached or has expired.

        Args:
            key: Parts of the key.
            recheck: Whether a value expires as early as an absence, and is not returned then.

        Raises:
            AWSError: The read failed, and no value is cached that may be returned.
        """
        value, read_at = self._entries.get(key, _NO_ENTRY)
        is_short = recheck or value is None
        ttl_seconds = self._absence_seconds if is_short else self._seconds
        if self._clock() < read_at + ttl_seconds:
            self._entries.move_to_end(key)
            return value
        reading = self._reading.get(key)
        if reading is None:
            # A separate task: cancelling one caller must not fail the others.
            reading = asyncio.get_running_loop().create_task(self._refresh(key))
            self._reading[key] = reading
            reading.add_done_callback(lambda task: self._read_ended(key, task))
        try:
            return await asyncio.shield(reading)
        except AWSError:
            if recheck or value is None:
                raise
            return value

    def _read_ended(self, key: Hashable, task: asyncio.Task[ValueT | None]) -> None:
        if self._reading.get(key) is task:
            del self._reading[key]
        if not task.cancelled():
            task.exception()  # mark as retrieved: all callers may have been cancelled

    async def _refresh(self, key: tuple[str, ...]) -> ValueT | None:
        value = await self._read(*key)
        self._entries[key] = value, self._clock()
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return value

    def invalidate(self, *key: str) -> None:
        """Remove the entry of a key."""
        self._entries.pop(key, None)
