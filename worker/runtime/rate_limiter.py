"""Limit on a rate, such as messages or read units per second."""

from __future__ import annotations

import asyncio
import math


class RateLimiter:
    """Keeps the average rate of units below a maximum.

    Args:
        per_second: Maximum rate; None for no limit.
    """

    def __init__(self, per_second: float | None) -> None:
        self._per_second = math.inf if per_second is None else per_second
        self._clock = asyncio.get_running_loop().time
        self._free_at = self._clock()

    async def wait(self) -> None:
        """Wait until the units spent so far are within the rate."""
        # Another task may have spent units in the meantime.
        while (left := self._free_at - self._clock()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left)

    def spend(self, units: float) -> None:
        """Count units that are about to be used, or that were used."""
        self._free_at = max(self._free_at, self._clock()) + units / self._per_second

    def batch_limit(self, maximum: int) -> int:
        """Return how many units to use at once: at a low rate fewer than `maximum`."""
        return max(1, int(min(maximum, self._per_second)))
