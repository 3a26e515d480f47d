"""Watchdog that ends the process when the event loop is blocked."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Final, Self

import structlog

_log: Final = structlog.get_logger()
_KEPT_LAGS: Final = 40
_MESSAGE_SECONDS: Final = 1.0


class EventLoopWatchdog:
    """Ends the process when the event loop is blocked, so that the process manager restarts it.

    No message is lost: messages in flight become visible again when their visibility timeout
    expires. The watchdog is a thread, because a blocked event loop runs no tasks.

    Args:
        seconds: Maximum time that the event loop may be blocked.
        warn_seconds: Minimum blocked time that is logged as a warning.
    """

    def __init__(self, seconds: float, warn_seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._warn_seconds = warn_seconds
        self._last_tick_at = time.monotonic()
        self._lags = deque([0.0], maxlen=_KEPT_LAGS)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="event-loop watchdog", daemon=True)
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._last_tick_at = time.monotonic()
        self._ticking = asyncio.get_running_loop().create_task(self._tick())
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended.set()
        if self._ticking is not None:
            self._ticking.cancel()
            await asyncio.gather(self._ticking, return_exceptions=True)
        self._thread.join()

    @property
    def lag_seconds(self) -> float:
        """The longest delay of the event loop in the last forty measurements."""
        return max(self._lags)

    async def _tick(self) -> None:
        interval = min(self._warn_seconds, self._seconds) / 4
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            lag = now - self._last_tick_at - interval
            self._last_tick_at = now
            self._lags.append(max(0.0, lag))
            if lag >= self._warn_seconds:
                _log.warning("event loop blocked", seconds=round(lag, 3))

    def _watch(self) -> None:
        overdue = 0
        while not self._ended.wait(self._seconds / 10):
            blocked = time.monotonic() - self._last_tick_at
            overdue = overdue + 1 if blocked >= self._seconds else 0
            # Twice in a row: after a suspension of the process, the loop runs in between.
            if overdue > 1:
                _terminate(f"aup-worker: gave up: the event loop was blocked for {blocked:.1f} s")


def _terminate(message: str) -> None:
    """Print a message and exit at once, since a blocked event loop cannot unwind.

    Writing to stderr may be what blocks the loop, so the message has its own thread and timeout.
    """
    try:
        with suppress(RuntimeError):  # cannot start a new thread
            writing = threading.Thread(target=_write, args=(message,), daemon=True)
            writing.start()
            writing.join(_MESSAGE_SECONDS)
    finally:
        os._exit(1)


def _write(message: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
