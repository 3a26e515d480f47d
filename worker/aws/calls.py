"""Calls to AWS with a deadline, and recovery from batches rejected as a whole."""

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


class calling:  # noqa: N801 - used like a function; a generator costs three times as much
    """Context of one call to AWS, with a deadline and translated errors.

    Args:
        operation: AWS's name of the operation.
        timeout_seconds: Deadline of the call, including its retries.
        calls: Counter of calls by operation.
        target: Queue or table, named in errors.

    Raises:
        AWSError: Of the subclass for the failure; its text starts with operation and target.
        SettingsError: The region or profile is missing or wrong.
    """

    __slots__ = (
        "_calls", "_cancelling", "_expired", "_operation", "_seconds", "_target", "_task", "_timer",
    )  # fmt: skip

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

    # The deadline is that of `asyncio.timeout`, which costs more than the rest of this class.
    async def __aenter__(self) -> None:
        if self._calls is not None:
            self._calls[self._operation] += 1
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a call must be made in a task")
        self._task = task
        self._cancelling = task.cancelling()
        self._expired = False
        self._timer = task.get_loop().call_later(self._seconds, self._expire)

    def _expire(self) -> None:
        self._task.cancel()
        self._expired = True

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        # No other cancellation was requested meanwhile.
        overdue = self._expired and self._task.uncancel() <= self._cancelling
        if error is None:
            return
        prefix = f"{self._operation} {self._target}" if self._target else self._operation
        try:
            with translating(prefix):
                raise error
        except asyncio.CancelledError as cancelled:
            if not overdue:
                raise
            notes = getattr(cancelled, "__notes__", ())
        if NO_CREDENTIALS in notes:
            raise AWSDeniedError(
                f"{prefix}: {NO_CREDENTIALS}: none received within {self._seconds:g} s; "
                f"{CREDENTIALS_ADVICE}"
            ) from None
        raise AWSUnavailableError(f"{prefix}: no response within {self._seconds:g} s") from None


async def split_if_rejected(
    call: Callable[[Sequence[EntryT]], Awaitable[Sequence[ResultT]]], entries: Sequence[EntryT]
) -> list[ResultT | AWSError]:
    """Call with all entries, and with halves of them if the batch is rejected as a whole.

    One entry can cause the rejection of a whole batch; repeated halving isolates it. The halves are
    sent one after the other, because the caller budgets for one call in flight.

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
