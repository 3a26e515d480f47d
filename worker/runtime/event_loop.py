"""Choice of the event loop: uvloop if installed, asyncio otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

try:
    import uvloop as loops
except ImportError:  # not available on this platform
    loops = asyncio  # type: ignore[misc] # both create event loops


def run_on_loop(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine on the fastest available event loop and return its result."""
    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        return runner.run(main)
