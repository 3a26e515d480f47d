"""A guard against an event loop that has stopped turning."""

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
_KEPT_TURNS: Final = 40
_MESSAGE_SECONDS: Final = 1.0


class EventLoopWatchdog:
    """End the process when its event loop stands still, for its supervisor to start it anew.

    Nothing is lost by that: what was held reappears in the queue when its visibility ends. A thread
    watches, for nothing on a loop that stands still could.

    Args:
        seconds: how long the loop may stand still.
        warn_seconds: from when on it is worth a warning.
    """

    def __init__(self, seconds: float, warn_seconds: float = 1.0) -> None:
        self._seconds = seconds
        self._warn_seconds = warn_seconds
        self._turned_at = time.monotonic()
        self._lags = deque([0.0], maxlen=_KEPT_TURNS)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="stall guard", daemon=True)
        self._ticking: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._turned_at = time.monotonic()
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
        """How long the loop stood still, at most, in the last forty looks at it."""
        return max(self._lags)

    async def _tick(self) -> None:
        interval = min(self._warn_seconds, self._seconds) / 4
        while True:
            await asyncio.sleep(interval)
            now = time.monotonic()
            stood = now - self._turned_at - interval
            self._turned_at = now
            self._lags.append(max(0.0, stood))
            if stood >= self._warn_seconds:
                _log.warning("the event loop stood still", seconds=round(stood, 3))

    def _watch(self) -> None:
        overdue = 0
        while not self._ended.wait(self._seconds / 10):
            stood = time.monotonic() - self._turned_at
            overdue = overdue + 1 if stood >= self._seconds else 0
            # Twice in a row: a process that was suspended lets its loop turn in between.
            if overdue > 1:
                _terminate(f"aup-worker: gave up: the event loop stood still for {stood:.1f} s")


def _terminate(message: str) -> None:
    """Exit at once: the loop cannot unwind, so neither can the interpreter.

    What blocks the loop may be stderr itself, so the message gets a thread and a limited time.
    """
    try:
        with suppress(RuntimeError):  # no thread can be started
            writing = threading.Thread(target=_write, args=(message,), daemon=True)
            writing.start()
            writing.join(_MESSAGE_SECONDS)
    finally:
        os._exit(1)


def _write(message: str) -> None:
    with suppress(OSError, ValueError):
        sys.stderr.write(f"{message}\n")
        sys.stderr.flush()
