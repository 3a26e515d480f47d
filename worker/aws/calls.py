"""Calls to AWS with a deadline, and batches that are rejected as a whole."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import TypeVar

from worker.aws.error_codes import CREDENTIALS_ADVICE
from worker.aws.sdk_errors import NO_CREDENTIALS, translating
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSRejectedError,
    AWSUnavailableError,
    LeaseLostError,
)

EntryT = TypeVar("EntryT")
ResultT = TypeVar("ResultT")
Calling = Callable[..., AbstractAsyncContextManager[None]]


class calling:  # noqa: N801 - used like a function; a generator would cost three times as much
    """Context of one call to AWS: a deadline, and errors that say what to do.

    Args:
        operation: AWS's name of the call.
        timeout_seconds: when the call is abandoned, its retries included.
        calls: where the call is counted.
        target: the queue or table, named in errors.

    Raises:
        AWSError: of the subclass that says what to do; its text names operation and target.
        SettingsError: region or profile are missing or wrong.
    """

    __slots__ = ("_calls", "_deadline", "_operation", "_seconds", "_target")

    def __init__(
        self,
        operation: str,
        timeout_seconds: float,
        calls: Counter[str] | None = None,
        *,
        target: str = "",
    ) -> None:
        self._operation = operation
        self._seconds = timeout_seconds
        self._calls = calls
        self._target = target

    async def __aenter__(self) -> None:
        if self._calls is not None:
            self._calls[self._operation] += 1
        self._deadline = asyncio.timeout(self._seconds)
        await self._deadline.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            await self._deadline.__aexit__(None, None, None)
            return
        what = f"{self._operation} {self._target}" if self._target else self._operation
        try:
            try:
                with translating(what):
                    raise error  # noqa: TRY301 - to be translated
            except BaseException as found:
                await self._deadline.__aexit__(type(found), found, found.__traceback__)
                raise
        except TimeoutError as late:
            if NO_CREDENTIALS in getattr(late.__cause__, "__notes__", ()):
                raise AWSDeniedError(
                    f"{what}: {NO_CREDENTIALS}: none came within {self._seconds:g} s; "
                    f"{CREDENTIALS_ADVICE}"
                ) from None
            raise AWSUnavailableError(f"{what}: no answer within {self._seconds:g} s") from None


async def split_if_rejected(
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[ResultT]]], entries: Sequence[EntryT]
) -> list[ResultT | AWSError]:
    """Call with all entries, and in halves where they are rejected together.

    One entry can cause the rejection of a whole batch: halved again and again, it fails alone. One
    half follows the other, because the caller counts on one call in flight.

    Args:
        call: Takes entries, returns one result for each, in order.
        entries: The batch.

    Returns:
        One result or error for each entry, in order.

    Raises:
        AWSError: The call failed for another reason, or has no entries to separate.
    """
    try:
        return list(await call(entries))
    except (AWSRejectedError, LeaseLostError):
        if len(entries) <= 1:
            raise
    middle = len(entries) // 2
    results: list[ResultT | AWSError] = []
    for half in (entries[:middle], entries[middle:]):
        try:
            results += await split_if_rejected(call, half)
        except AWSError as error:
            results += [error] * len(half)
    return results
