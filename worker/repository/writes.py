"""Two ways to insert items that must not exist: one list in, one result for each item out."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
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

if TYPE_CHECKING:
    from worker.aws.fast_path.caller import Caller

    Lend = Callable[[], AbstractAsyncContextManager[Caller]]

Item = Mapping[str, Any]

# DynamoDB API reference, BatchExecuteStatement.
STATEMENTS_MAX: Final = 25
# A key that no policy and no acceptance has.
PROBE: Final = "aup-worker-probe"
# DynamoDB names its errors. A nameless 500 may pass, and is also how moto breaks at PartiQL.
_NAMELESS: Final = ": 500: "
WITHOUT_PARTIQL: Final = "a table service without PartiQL needs AUP_WRITE_API=put"


class Inserted(Enum):
    """What became of one insert."""

    NEW = "new"
    EXISTS = "exists"


InsertResult = Inserted | AWSError


class Inserts(Protocol):
    """Insert items, each on its own terms."""

    max_items: int
    operation: str

    def __call__(self, items: Sequence[Item], /) -> Awaitable[Sequence[InsertResult]]:
        """Insert up to `max_items` items with distinct keys."""


class _TableInserts:
    """Know the table and how to call it.

    Args:
        lend: gives the way to call.
        table_name: the table.
        timeout_seconds: deadline of a call.
        calls: where calls are counted.
        key_name: the table's partition key.
    """

    action: str

    def __init__(
        self,
        lend: Lend,
        table_name: str,
        timeout_seconds: float,
        calls: Counter[str],
        *,
        key_name: str = "user_id",
    ) -> None:
        self._lend = lend
        self._table_name = table_name
        self._timeout = timeout_seconds
        self._calls = calls
        self._key_name = key_name


class BatchInserts(_TableInserts):
    """Insert up to 25 items in one BatchExecuteStatement."""

    max_items = STATEMENTS_MAX
    operation = "BatchExecuteStatement"
    action = "dynamodb:PartiQLInsert"

    async def __call__(self, items: Sequence[Item], /) -> list[InsertResult]:
        """Insert the items; a call that is rejected as a whole is repeated in halves."""
        return await split_if_rejected(self._execute, items)

    async def attempt(self) -> None:
        """Try an insert that cannot succeed, for it lacks the partition key.

        Raises:
            AWSError: the insert is not permitted, or the server cannot do such inserts.
        """
        try:
            (result,) = await self._execute([{"policy_version": PROBE}])
        except AWSRejectedError:
            return
        except AWSUnavailableError as error:
            if _NAMELESS not in str(error):
                raise
            raise AWSUnavailableError(f"{error}; {WITHOUT_PARTIQL}") from None
        if isinstance(result, AWSError) and not isinstance(result, AWSRejectedError):
            raise result

    async def _execute(self, items: Sequence[Item]) -> list[InsertResult]:
        with _advised():
            answer = await self._call(items)
        responses = answer.get("Responses")
        # They are told apart by their places alone: with one too many or too few, none is known.
        if not isinstance(responses, list) or len(responses) != len(items):
            count = len(responses) if isinstance(responses, list) else "unreadable"
            raise AWSUnavailableError(
                f"BatchExecuteStatement: {len(items)} statements, {count} responses"
            )
        return [_statement_result(response) for response in responses]

    async def _call(self, items: Sequence[Item]) -> dict[str, Any]:
        async with (
            self._lend() as caller,
            calling("BatchExecuteStatement", self._timeout, self._calls, target=self._table_name),
        ):
            statements = [
                {
                    "Statement": insert_statement(self._table_name, tuple(item)),
                    "Parameters": list(item.values()),
                }
                for item in items
            ]
            return await caller.call("BatchExecuteStatement", {"Statements": statements})


class ConditionalPuts(_TableInserts):
    """Insert one item by a PutItem that requires its absence."""

    max_items = 1
    operation = "PutItem"
    action = "dynamodb:PutItem"

    async def __call__(self, items: Sequence[Item], /) -> list[InsertResult]:
        """Insert the items, one call each."""
        done = await asyncio.gather(*map(self._put, items), return_exceptions=True)
        return [_result(outcome) for outcome in done]

    async def attempt(self) -> None:
        """Try a put that cannot succeed, for its conditions contradict each other.

        Raises:
            AWSError: the put is not permitted.
        """
        item = {"user_id": PROBE, "policy_version": PROBE}
        with suppress(AWSRejectedError):
            await self._put_if(item, "attribute_exists(user_id) AND attribute_not_exists(user_id)")

    async def _put_if(self, item: Item, condition: str) -> None:
        async with (
            self._lend() as caller,
            calling("PutItem", self._timeout, self._calls, target=self._table_name),
        ):
            request = {
                "TableName": self._table_name,
                "Item": dict(item),
                "ConditionExpression": condition,
            }
            await caller.call("PutItem", request)

    async def _put(self, item: Item) -> InsertResult:
        try:
            await self._put_if(item, f"attribute_not_exists({self._key_name})")
        except AWSRejectedError as error:
            if "ConditionalCheckFailed" in str(error):
                return Inserted.EXISTS
            raise
        return Inserted.NEW


@contextmanager
def _advised() -> Iterator[None]:
    """Advise another kind of write where the server does not support PartiQL."""
    try:
        yield
    except AWSUnsupportedError as error:
        raise AWSUnsupportedError(f"{error}; {WITHOUT_PARTIQL}") from None


@lru_cache(maxsize=1024)  # producers state the same fields every time
def insert_statement(table_name: str, names: tuple[str, ...]) -> str:
    """Write the PartiQL statement for an item's attributes, values as parameters."""
    attributes = ", ".join(f"'{name}': ?" for name in names)
    return f'INSERT INTO "{table_name}" VALUE {{{attributes}}}'


def _statement_result(response: Any) -> InsertResult:
    error: Any = response.get("Error") if isinstance(response, dict) else ()
    if error is None:
        return Inserted.NEW
    code = error.get("Code") if isinstance(error, dict) else None
    if not isinstance(code, str):
        return AWSUnavailableError("BatchExecuteStatement: a malformed response to a statement")
    if code in {"DuplicateItem", "ConditionalCheckFailed"}:
        return Inserted.EXISTS
    message = error.get("Message")
    return error_of(code, message if isinstance(message, str) else "")


def _result(outcome: Any) -> InsertResult:
    if isinstance(outcome, Inserted | AWSError):
        return outcome
    raise outcome


class AdaptiveConcurrency:
    """Keep writes under way between one and a limit: halved by throttling, grown by success.

    Additive increase, multiplicative decrease: a limit L grows by one in L unthrottled calls, and
    is halved at most once in the time of a call (Chiu and Jain, 1989).

    Args:
        limit: the most calls under way.
        clock: gives seconds that only grow.
    """

    COOL_DOWN_SECONDS: Final = 0.5

    def __init__(self, limit: int, clock: Callable[[], float]) -> None:
        self._limit = float(limit)
        self._allowed = float(limit)
        self._clock = clock
        self._halved_at = float("-inf")

    @property
    def allowed(self) -> int:
        """How many calls may be under way now."""
        return int(self._allowed)

    def learn(self, results: Sequence[InsertResult]) -> None:
        """Take in how a call ended."""
        if not any(isinstance(result, AWSThrottledError) for result in results):
            self._allowed = min(self._limit, self._allowed + 1 / self._allowed)
            return
        now = self._clock()
        if now - self._halved_at >= self.COOL_DOWN_SECONDS:
            self._halved_at = now
            self._allowed = max(1.0, self._allowed / 2)
