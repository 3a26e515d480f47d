"""Handling of SIGTERM and SIGINT on an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# `timeout`, terminals and process managers may send two signals at once; a person takes longer.
_PAIR_SECONDS: Final = 1.0


@contextmanager
def on_signals(
    first: Callable[[signal.Signals], None], again: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Handle SIGTERM and SIGINT inside the block; restore the earlier handlers afterwards.

    Args:
        first: Called on the first signal.
        again: Called on each later signal, except within one second after the last handled one.
    """
    loop = asyncio.get_running_loop()
    handled_at: float | None = None

    def handle(number: signal.Signals) -> None:
        nonlocal handled_at
        now = loop.time()
        if handled_at is None:
            handled_at = now
            first(number)
        elif now - handled_at >= _PAIR_SECONDS:
            handled_at = now
            again(number)

    previous = {number: signal.getsignal(number) for number in _SIGNALS}
    # SIGINT explicitly: shells start background commands with SIGINT ignored.
    for number in _SIGNALS:
        loop.add_signal_handler(number, handle, number)
    try:
        yield
    finally:
        for number, handler in previous.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


def ignore_signals() -> None:
    """Ignore SIGTERM and SIGINT while the command exits, so that they do not change its code."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
