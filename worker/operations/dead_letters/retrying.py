"""Batches of calls, each entry repeated until it succeeds or is refused for good."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.runtime.backoff import full_jitter

_ATTEMPTS: Final = 5
EntryT = TypeVar("EntryT")


async def patiently(
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[AWSError | None]]],
    entries: Sequence[EntryT],
) -> list[AWSError | None]:
    """Repeat what failed in passing, entry by entry.

    Args:
        call: takes entries and gives an error or nothing for each, or fails as a whole.
        entries: what to do; nothing is called for none.

    Returns:
        The last error of each entry; None where it succeeded.
    """
    results: list[AWSError | None] = [None] * len(entries)
    waiting = list(range(len(entries)))
    for attempt in range(1, _ATTEMPTS + 1):
        if not waiting:
            break
        if attempt > 1:
            await asyncio.sleep(full_jitter(attempt, base_seconds=0.2, cap_seconds=5.0))
        answers: Sequence[AWSError | None]
        try:
            answers = await call([entries[index] for index in waiting])
        except AWSError as error:
            answers = [error] * len(waiting)
        for index, answer in zip(waiting, answers, strict=True):
            results[index] = answer
        passing = (AWSThrottledError, AWSUnavailableError)
        waiting = [index for index in waiting if isinstance(results[index], passing)]
    return results
