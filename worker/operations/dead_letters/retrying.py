"""Batch calls that retry each entry on its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.runtime.backoff import full_jitter

_ATTEMPTS: Final = 5
EntryT = TypeVar("EntryT")


async def retry_entries(
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[AWSError | None]]],
    entries: Sequence[EntryT],
) -> list[AWSError | None]:
    """Call with all entries, then again with those that failed with a transient error.

    Args:
        call: Takes entries and returns an error or None for each, or raises for all of them.
        entries: Entries of the batch; without entries nothing is called.

    Returns:
        The last error of each entry; None where it succeeded.
    """
    results: list[AWSError | None] = [None] * len(entries)
    pending = list(range(len(entries)))
    for attempt in range(1, _ATTEMPTS + 1):
        if not pending:
            break
        if attempt > 1:
            await asyncio.sleep(full_jitter(attempt, base_seconds=0.2, cap_seconds=5.0))
        errors: Sequence[AWSError | None]
        try:
            errors = await call([entries[index] for index in pending])
        except AWSError as error:
            errors = [error] * len(pending)
        for index, each in zip(pending, errors, strict=True):
            results[index] = each
        transient = (AWSThrottledError, AWSUnavailableError)
        pending = [index for index in pending if isinstance(results[index], transient)]
    return results
