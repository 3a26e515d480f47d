"""SIGTERM and SIGINT on an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# `timeout`, terminals and process managers send pairs; a person who insists takes longer.
_PAIR_SECONDS: Final = 1.0


@contextmanager
def on_signals(
    first: Callable[[signal.Signals], None], again: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Handle SIGTERM and SIGINT inside the block; restore the earlier handlers afterwards.

    Args:
        first: called on the first signal.
        again: called on each later one, unless it comes within a second of the last that counted.
    """
    loop = asyncio.get_running_loop()
    counted_at: float | None = None

    def handle(number: signal.Signals) -> None:
        nonlocal counted_at
        now = loop.time()
        if counted_at is None:
            counted_at = now
            first(number)
        elif now - counted_at >= _PAIR_SECONDS:
            counted_at = now
            again(number)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    # SIGINT too: a shell starts background commands with it ignored.
    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT: the command is exiting already, and its exit code is decided."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
