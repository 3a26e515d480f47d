"""Concurrent calls that fail as sequential ones would."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

FirstT = TypeVar("FirstT")
SecondT = TypeVar("SecondT")


async def run_both(
    first: Coroutine[Any, Any, FirstT], second: Coroutine[Any, Any, SecondT]
) -> tuple[FirstT, SecondT]:
    """Run two coroutines concurrently.

    If both fail, the error of the first one is raised, even if it occurs later. No task is left
    running after an error or a cancellation.

    Args:
        first: Coroutine whose error cancels the second one.
        second: Coroutine that is safe to cancel.

    Returns:
        The results of both.
    """
    tasks = asyncio.ensure_future(first), asyncio.ensure_future(second)
    try:
        return await tasks[0], await tasks[1]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
