"""Circuit breaker that pauses receiving while the table fails."""

from __future__ import annotations

import asyncio
from typing import Final


class Breaker:
    """Circuit breaker around the table, so that an outage does not use up receive counts.

    It opens after several consecutive failures and closes with the first success. Messages in
    flight keep retrying and serve as probes; if there are none, one message is received at
    intervals.

    Attributes:
        FAILURES: Consecutive failures that open it.
        PROBE_SECONDS: Interval of single receives while it is open.
    """

    FAILURES: Final = 5
    PROBE_SECONDS: Final = 15.0

    def __init__(self) -> None:
        self._consecutive = 0
        self._closed = asyncio.Event()
        self._closed.set()

    @property
    def is_open(self) -> bool:
        """Whether receiving is paused."""
        return not self._closed.is_set()

    def succeeded(self) -> bool:
        """Note a success.

        Returns:
            Whether it closed the breaker.
        """
        self._consecutive = 0
        if self._closed.is_set():
            return False
        self._closed.set()
        return True

    def failed(self) -> bool:
        """Note a failure.

        Returns:
            Whether it opened the breaker.
        """
        self._consecutive += 1
        if self._consecutive < self.FAILURES or self.is_open:
            return False
        self._closed.clear()
        return True

    async def wait_closed(self) -> bool:
        """Wait until the breaker closes or a probe is due.

        Returns:
            Whether it is closed; if not, a single message may be received as a probe.
        """
        try:
            async with asyncio.timeout(self.PROBE_SECONDS):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True
