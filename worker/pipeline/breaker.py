"""Whether the table is well enough to take in more messages."""

from __future__ import annotations

import asyncio
from typing import Final


class Breaker:
    """Stop receiving while the table fails, so that receive counts are not burnt.

    Opens after some failures in a row and closes with the first success. Messages that are held
    meanwhile try on and are the probes; where none is held, one message is let in at intervals.

    Args:
        failures: in a row, before it opens.
        probe_seconds: between two messages that are let in while it is open.
    """

    FAILURES: Final = 5
    PROBE_SECONDS: Final = 15.0

    def __init__(self, failures: int = FAILURES, probe_seconds: float = PROBE_SECONDS) -> None:
        self._failures = failures
        self._probe_seconds = probe_seconds
        self._in_a_row = 0
        self._closed = asyncio.Event()
        self._closed.set()

    @property
    def is_open(self) -> bool:
        """Say whether receiving is stopped."""
        return not self._closed.is_set()

    def succeeded(self) -> bool:
        """Take in a success.

        Returns:
            Whether it closed the breaker.
        """
        was_open = self.is_open
        self._in_a_row = 0
        self._closed.set()
        return was_open

    def failed(self) -> bool:
        """Take in a failure.

        Returns:
            Whether it opened the breaker.
        """
        self._in_a_row += 1
        if self._in_a_row < self._failures or self.is_open:
            return False
        self._closed.clear()
        return True

    async def admit(self) -> bool:
        """Wait until it closes, or until a probe is due.

        Returns:
            Whether it is closed; otherwise let one message in, if none is held.
        """
        try:
            async with asyncio.timeout(self._probe_seconds):
                await self._closed.wait()
        except TimeoutError:
            return False
        return True
