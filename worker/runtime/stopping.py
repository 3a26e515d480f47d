"""Waits that end when the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


async def unless_stopped(
    stopping: asyncio.Event, waiting: Coroutine[Any, Any, ResultT]
) -> ResultT | None:
    """Run a coroutine and cancel it when the service stops.

    Not for receive calls: a cancelled one may lose the messages of its response.

    Args:
        stopping: Set when the service stops.
        waiting: Coroutine that is safe to cancel.

    Returns:
        The result of the coroutine; None if it was cancelled.
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
