"""Inserts that never overwrite an item, in batches or one by one, with retries and AIMD limits."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Protocol

from worker.aws.calls import calling, split_if_rejected
from worker.aws.error_codes import error_of
from worker.errors import (
    AWSError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
)
from worker.runtime.retry import RetryPolicy
from worker.settings import AWSSettings

if TYPE_CHECKING:
    from worker.aws.fast_path.caller import Caller

    OpenCaller = Callable[[], AbstractAsyncContextManager[Caller]]

Item = Mapping[str, Any]

# DynamoDB API reference, BatchExecuteStatement.
STATEMENTS_MAX: Final = 25
# Key that no policy and no acceptance has.
PROBE: Final = "aup-worker-probe"
# DynamoDB's errors have a code. A 500 without one may be transient; moto fails so on PartiQL.
_WITHOUT_CODE: Final = ": 500: "
WITHOUT_PARTIQL: Final = "a table service without PartiQL needs AUP_WRITE_API=put"


class Inserted(Enum):
    """Result of one insert that did not fail."""

    NEW = "new"
    EXISTS = "exists"


InsertResult = Inserted | AWSError


class Inserts(Protocol):
    """Inserts of items, each with a result of its own."""

    max_items: int
    operation: str

    def __call__(self, items: Sequence[Item], /) -> Awaitable[Sequence[InsertResult]]:
        """Insert up to `max_items` items with distinct keys; return one result for each."""


@dataclass(frozen=True, slots=True)
class _TableInserts:
    """Inserts into one table.

    Attributes:
        open_caller: Returns the context of a caller.
        table_name: Table to insert into.
        timeout_seconds: Deadline of a call.
        calls: Counter of calls by operation.
        key_name: Partition key of the table.
    """

    open_caller: OpenCaller
    table_name: str
    timeout_seconds: float
    calls: Counter[str]
    key_name: str

    def _calling(self, operation: str) -> AbstractAsyncContextManager[None]:
        return calling(operation, self.timeout_seconds, self.calls, target=self.table_name)


class BatchInserts(_TableInserts):
    """Inserts of up to 25 items in one BatchExecuteStatement."""

    max_items = STATEMENTS_MAX
    operation = "BatchExecuteStatement"
    action = "dynamodb:PartiQLInsert"

    async def __call__(self, items: Sequence[Item], /) -> list[InsertResult]:
        """Insert the items; split a call that is rejected as a whole and repeat it."""
        return await split_if_rejected(self._execute, items)

    async def attempt(self) -> None:
        """Try an insert that cannot succeed because it lacks the partition key.

        Raises:
            AWSError: The insert is not permitted, or the server does not support PartiQL inserts.
        """
        try:
            (result,) = await self._execute([{"policy_version": PROBE}])
        except AWSRejectedError:
            return
        except AWSUnavailableError as error:
            if _WITHOUT_CODE not in str(error):
                raise
            raise AWSUnavailableError(f"{error}; {WITHOUT_PARTIQL}") from None
        if isinstance(result, AWSError) and not isinstance(result, AWSRejectedError):
            raise result

    async def _execute(self, items: Sequence[Item]) -> list[InsertResult]:
        statements = [
            {
                "Statement": insert_statement(self.table_name, tuple(item)),
                "Parameters": list(item.values()),
            }
            for item in items
        ]
        try:
            async with self.open_caller() as caller, self._calling(self.operation):
                response = await caller.call(self.operation, {"Statements": statements})
        except AWSUnsupportedError as error:
            raise AWSUnsupportedError(f"{error}; {WITHOUT_PARTIQL}") from None
        responses = response.get("Responses")
        # Only the position relates a response to its statement: a wrong count makes all unknown.
        if not isinstance(responses, list) or len(responses) != len(items):
            count = len(responses) if isinstance(responses, list) else "unreadable"
            raise AWSUnavailableError(
                f"BatchExecuteStatement: {len(items)} statements, {count} responses"
            )
        return [_statement_result(response) for response in responses]


class ConditionalPuts(_TableInserts):
    """Inserts of one item each by a PutItem conditional on its absence."""

    max_items = 1
    operation = "PutItem"
    action = "dynamodb:PutItem"

    async def __call__(self, items: Sequence[Item], /) -> list[InsertResult]:
        """Insert the items concurrently, one call each."""
        return await asyncio.gather(*map(self._put, items))

    async def attempt(self) -> None:
        """Try a put that cannot succeed because its conditions contradict each other.

        Raises:
            AWSError: The put is not permitted.
        """
        item = {"user_id": PROBE, "policy_version": PROBE}
        with suppress(AWSRejectedError):
            await self._put_if(item, "attribute_exists(user_id) AND attribute_not_exists(user_id)")

    async def _put_if(self, item: Item, condition: str) -> None:
        request = {
            "TableName": self.table_name,
            "Item": dict(item),
            "ConditionExpression": condition,
        }
        async with self.open_caller() as caller, self._calling(self.operation):
            await caller.call(self.operation, request)

    async def _put(self, item: Item) -> InsertResult:
        try:
            await self._put_if(item, f"attribute_not_exists({self.key_name})")
        except AWSError as error:
            exists = isinstance(error, AWSRejectedError) and "ConditionalCheckFailed" in str(error)
            return Inserted.EXISTS if exists else error
        return Inserted.NEW


@lru_cache(maxsize=1024)  # the items of one producer have the same attributes
def insert_statement(table_name: str, names: tuple[str, ...]) -> str:
    """Return the PartiQL statement for an item's attributes, values as parameters."""
    attributes = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table_name}" VALUE {{{attributes}}}'


def _statement_result(response: Any) -> InsertResult:
    error: Any = response.get("Error") if isinstance(response, dict) else ()
    if error is None:
        return Inserted.NEW
    code = error.get("Code") if isinstance(error, dict) else None
    if not isinstance(code, str):
        return AWSUnavailableError("BatchExecuteStatement: malformed response to a statement")
    if code in {"DuplicateItem", "ConditionalCheckFailed"}:
        return Inserted.EXISTS
    message = error.get("Message")
    return error_of(code, message if isinstance(message, str) else "")


def write_retries(aws_settings: AWSSettings) -> RetryPolicy:
    """Return the retry policy of one insert."""
    return RetryPolicy(attempts=aws_settings.write_attempts, base_seconds=0.1, cap_seconds=2.0)


class AdaptiveConcurrency:
    """Limit of concurrent calls that throttling lowers and success raises.

    Additive increase, multiplicative decrease (Chiu and Jain, 1989): the limit L grows by one in L
    unthrottled calls, and is halved at most once per cool-down.

    Args:
        limit: Maximum of concurrent calls.
    """

    COOL_DOWN_SECONDS: Final = 0.5

    def __init__(self, limit: int) -> None:
        self._limit = float(limit)
        self._allowed = float(limit)
        self._halved_at = float("-inf")

    @property
    def allowed(self) -> int:
        """Current limit of concurrent calls."""
        return int(self._allowed)

    def adjust(self, results: Sequence[InsertResult], now: float) -> None:
        """Adjust the limit to the results of one call, at a time in monotonic seconds."""
        if not any(isinstance(result, AWSThrottledError) for result in results):
            self._allowed = min(self._limit, self._allowed + 1 / self._allowed)
        elif now - self._halved_at >= self.COOL_DOWN_SECONDS:
            self._halved_at = now
            self._allowed = max(1.0, self._allowed / 2)
