"""Handling of SIGTERM and SIGINT on an event loop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# `timeout`, terminals and process managers may send two signals at once; a person takes longer.
_PAIR_SECONDS: Final = 1.0


@contextmanager
def on_signals(
    first: Callable[[signal.Signals], None], again: Callable[[signal.Signals], None]
) -> Iterator[None]:
    """Handle SIGTERM and SIGINT inside the block.

    After the block both are ignored if one was received, because the process is about to exit and
    its exit code must not change; otherwise the earlier handlers apply again.

    Args:
        first: Called on the first signal.
        again: Called on each later signal, except within one second after the last handled one.
    """
    loop = asyncio.get_running_loop()
    handled_at: float | None = None
    received = False

    def handle(number: signal.Signals) -> None:
        nonlocal handled_at
        now = loop.time()
        if handled_at is None:
            handled_at = now
            first(number)
        elif now - handled_at >= _PAIR_SECONDS:
            handled_at = now
            again(number)

    # Not `loop.add_signal_handler`: its removal restores the default action for a moment, and a
    # signal in that moment would end the process.
    def receive(number: int, _: FrameType | None) -> None:
        nonlocal received
        received = True
        loop.call_soon_threadsafe(handle, signal.Signals(number))

    # SIGINT explicitly: shells start background commands with SIGINT ignored.
    previous = {number: signal.signal(number, receive) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, signal.SIG_IGN if received else handler)
