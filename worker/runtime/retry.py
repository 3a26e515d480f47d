"""Retries after transient errors of AWS: policies as values, one loop, one loop for batches."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar, TypeVarTuple

from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError

ArgumentsT = TypeVarTuple("ArgumentsT")
EntryT = TypeVar("EntryT")
ResultT = TypeVar("ResultT")

# The same call may succeed later. Other errors need another request, or someone's action.
TRANSIENT: Final = (AWSThrottledError, AWSUnavailableError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Number of attempts, and exponential backoff with full jitter between them.

    Attributes:
        attempts: Maximum number of attempts, including the first; None for no maximum.
        base_seconds: Upper bound of the first delay.
        cap_seconds: Upper bound of every delay.
    """

    attempts: int | None = None
    base_seconds: float
    cap_seconds: float

    def delay_seconds(self, failures: int) -> float:
        """Return a random delay before the next attempt.

        Args:
            failures: Number of failed attempts, at least 1.

        Returns:
            Seconds in [0, min(cap, base * 2^(failures-1))).

        Source: AWS Architecture Blog, "Exponential Backoff and Jitter".
        """
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 60))
        return random.random() * ceiling  # noqa: S311 - not a secret


async def retry(
    policy: RetryPolicy,
    call: Callable[[*ArgumentsT], Awaitable[ResultT]],
    *args: *ArgumentsT,
    failed: AWSError | None = None,
    until: float | Callable[[], float] = math.inf,
    on_retry: Callable[[AWSError, float], None] | None = None,
) -> ResultT:
    """Call and return the result; retry after transient errors.

    Args:
        policy: Number of attempts and delays.
        call: Makes one attempt.
        args: Positional arguments of the call.
        failed: Error of the first attempt, if the caller has made it.
        until: Time of the loop's clock from which on no retry may start; a callable if it moves.
        on_retry: Called before each delay with the error and the seconds until the next attempt.

    Raises:
        AWSError: The last attempt failed, or the error is not transient.
    """
    failures = 0
    while True:
        try:
            if failed is not None:
                raise failed
            return await call(*args)
        except TRANSIENT as error:
            failed = None
            failures += 1
            if failures == policy.attempts:
                raise
            delay = policy.delay_seconds(failures)
            deadline = until() if callable(until) else until
            if asyncio.get_running_loop().time() + delay >= deadline:
                raise
            if on_retry is not None:
                on_retry(error, delay)
        await asyncio.sleep(delay)


async def retry_entries(
    policy: RetryPolicy,
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[AWSError | None]]],
    entries: Sequence[EntryT],
) -> list[AWSError | None]:
    """Call with all entries, then again with those that failed with a transient error.

    Args:
        policy: Number of attempts and delays.
        call: Takes entries and returns an error or None for each, or raises for all of them.
        entries: Entries of the batch; without entries nothing is called.

    Returns:
        The last error of each entry; None where it succeeded.
    """
    results: list[AWSError | None] = [None] * len(entries)
    pending = list(range(len(entries)))
    failures = 0
    while pending:
        if failures:
            await asyncio.sleep(policy.delay_seconds(failures))
        errors: Sequence[AWSError | None]
        try:
            errors = await call([entries[index] for index in pending])
        except AWSError as error:
            errors = [error] * len(pending)
        for index, each in zip(pending, errors, strict=True):
            results[index] = each
        failures += 1
        if failures == policy.attempts:
            break
        pending = [index for index in pending if isinstance(results[index], TRANSIENT)]
    return results
