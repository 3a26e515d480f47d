"""Policies read once and believed for a while."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from worker.errors import AWSError

ValueT = TypeVar("ValueT")


@dataclass(frozen=True, slots=True)
class _Entry(Generic[ValueT]):
    value: ValueT | None
    believed_until: float


class ReadThroughCache(Generic[ValueT]):
    """Read each key once for all concurrent callers, and remember values and absences.

    A value outlives its time when the read that should renew it fails: published policies do not
    change, so an old one is better than none.

    Args:
        read: reads one key; None means that there is no such thing.
        seconds: how long a value is believed.
        absence_seconds: how long an absence is believed.
        max_entries: beyond which the least recently used is dropped.
    """

    MAX_ENTRIES: Final = 10_000

    def __init__(
        self,
        read: Callable[..., Awaitable[ValueT | None]],
        *,
        seconds: float,
        absence_seconds: float,
        max_entries: int = MAX_ENTRIES,
    ) -> None:
        self._read = read
        self._seconds = seconds
        self._absence_seconds = absence_seconds
        self._max_entries = max_entries
        self._entries: OrderedDict[Hashable, _Entry[ValueT]] = OrderedDict()
        self._reading: dict[Hashable, asyncio.Task[ValueT | None]] = {}

    async def get(self, *key: str) -> ValueT | None:
        """Give the value of a key, reading it where it is not known or no longer believed.

        Raises:
            AWSError: it was never read and cannot be read now.
        """
        entry = self._entries.get(key)
        if entry is not None and asyncio.get_running_loop().time() < entry.believed_until:
            self._entries.move_to_end(key)
            return entry.value
        reading = self._reading.get(key)
        if reading is None:
            # A task of its own: a caller that is cancelled does not fail the others.
            reading = asyncio.get_running_loop().create_task(self._renew(key))
            self._reading[key] = reading
            reading.add_done_callback(lambda task: self._read_ended(key, task))
        try:
            return await asyncio.shield(reading)
        except AWSError:
            if entry is not None and entry.value is not None:
                return entry.value
            raise

    def _read_ended(self, key: Hashable, task: asyncio.Task[ValueT | None]) -> None:
        if self._reading.get(key) is task:
            del self._reading[key]
        if not task.cancelled():
            task.exception()  # looked at, for all of its callers may have been cancelled

    async def _renew(self, key: tuple[str, ...]) -> ValueT | None:
        value = await self._read(*key)
        seconds = self._absence_seconds if value is None else self._seconds
        now = asyncio.get_running_loop().time()
        self._entries[key] = _Entry(value, now + seconds)
        self._entries.move_to_end(key)
        while len(self._entries) > self._max_entries:
            self._entries.popitem(last=False)
        return value

    def forget(self, *key: str) -> None:
        """Drop what is remembered of a key."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Drop everything; what is being read finishes for its callers alone."""
        self._entries.clear()
        self._reading.clear()
