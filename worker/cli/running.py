"""Execution of a verb's coroutine, with handling of interrupts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from worker.errors import StoppedError
from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.runtime.signals import on_signals

ResultT = TypeVar("ResultT")


def run_async(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to completion; cancel it on SIGINT or SIGTERM so that it cleans up.

    Warnings are logged to stderr.

    Raises:
        StoppedError: A signal interrupted the coroutine.
    """
    configure("warning", "auto")

    async def interruptible() -> ResultT:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - runs in a task

        def interrupt(_: object) -> None:
            task.cancel()

        with on_signals(interrupt, interrupt):
            return await main

    try:
        return run_on_loop(interruptible())
    except asyncio.CancelledError:
        raise StoppedError(
            "interrupted; nothing is lost, run the command again to continue"
        ) from None
