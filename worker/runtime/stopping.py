"""Waiting that ends when the service is to stop."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def unless_stopped(
    stopping: asyncio.Event, waiting: Coroutine[Any, Any, ResultT]
) -> ResultT | None:
    """Wait for something that may be given up without loss; never for a poll.

    Args:
        stopping: set when the service is to stop.
        waiting: cancelled when `stopping` is set first.

    Returns:
        Its result, or None when it was given up.
    """
    if stopping.is_set():
        waiting.close()
        return None
    task = asyncio.ensure_future(waiting)
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        return None
    finally:
        for each in (task, stop):
            each.cancel()
        await asyncio.gather(task, stop, return_exceptions=True)
