"""The event loop that everything runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

try:
    import uvloop as loops
except ImportError:  # there is none for this platform
    loops = asyncio  # type: ignore[misc] # both make event loops


def run_on_loop(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end, on the fastest event loop that there is."""
    with asyncio.Runner(loop_factory=loops.new_event_loop) as runner:
        return runner.run(main)
