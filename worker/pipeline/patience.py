"""How long trouble that no retry mends is borne."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from worker.errors import AWSDeniedError, AWSError, AWSNotFoundError, GaveUpError

_log: Final = structlog.get_logger()
_LOG_INTERVAL_SECONDS: Final = 60.0
# Whoever is denied tries again sooner: after so long without a denial the trouble is another one.
_BREAK_SECONDS: Final = 60.0


class Patience:
    """Give up when access is denied, or a queue or table gone, for too long without a break.

    Args:
        seconds: how long it may last.
        give_up: told once, when it has lasted longer.
        clock: gives seconds that only grow.

    Attributes:
        trouble: what AWS says while it lasts; empty when access works.
    """

    def __init__(
        self,
        seconds: float,
        give_up: Callable[[GaveUpError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._give_up = give_up
        self._clock = clock
        self._denied_seconds = 0.0
        self._denied_at = float("-inf")
        self._denied_last = False
        self._logged_at = float("-inf")
        self.trouble = ""

    def succeeded(self) -> None:
        """Take in that access works."""
        self._denied_seconds = 0.0
        self._denied_last = False
        self.trouble = ""

    def failed(self, error: AWSError) -> None:
        """Take in a failed call; what may pass by itself does not count, but is logged."""
        now = self._clock()
        if now - self._logged_at >= _LOG_INTERVAL_SECONDS:
            self._logged_at = now
            _log.warning("AWS call failed", error=str(error), kind=type(error).__name__)
        if not isinstance(error, AWSDeniedError | AWSNotFoundError):
            # Nor does it bridge two denials: nobody knows what access was meanwhile.
            self._denied_last = False
            return
        self.trouble = str(error)
        passed = now - self._denied_at
        if passed > _BREAK_SECONDS:
            self._denied_seconds = 0.0
        elif self._denied_last:
            self._denied_seconds += passed
        self._denied_at = now
        self._denied_last = True
        if self._denied_seconds >= self._seconds:
            self._give_up(GaveUpError(f"for {self._seconds:g} s and longer: {error}"))
