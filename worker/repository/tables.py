"""Reads and conditional updates of the tables, through the shared resource."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

from worker.aws.access import CallObserver, Operation, Probe
from worker.aws.calls import Calling, calling
from worker.errors import AWSError, AWSRejectedError, AWSUnavailableError
from worker.repository.dynamodb import DynamoDBRepository
from worker.repository.updates import Update
from worker.repository.writes import PROBE, BatchInserts, ConditionalPuts, Inserts


class TableTracing(Protocol):
    """Tracing of the calls to the tables."""

    def inserts(self, inserts: Inserts, table_name: str) -> Inserts:
        """Return equivalent inserts that are traced."""

    def calling(self, calling: Calling) -> Calling:
        """Return an equivalent call context that is traced."""


class TableCalls:
    """Calls to the tables: each with a deadline, counted, and traced and observed on request.

    Args:
        repository: Owner of the shared resource, of the settings and of the call counter.

    Attributes:
        settings: Settings of the repository.
        check_owner: Raises unless the caller may use the repository.
    """

    def __init__(self, repository: DynamoDBRepository) -> None:
        self.settings = repository.aws_settings
        self.check_owner = repository.check_owner
        self._repository = repository
        self._calling: Calling = calling
        self._observer: CallObserver | None = None

    def inserts(self, table_name: str, *, key_name: str) -> BatchInserts | ConditionalPuts:
        """Return inserts into a table.

        Args:
            table_name: Table to insert into.
            key_name: Partition key of the table.
        """
        kind = BatchInserts if self.settings.write_api == "batch" else ConditionalPuts
        return kind(
            self._repository.dynamodb_caller,
            table_name,
            self.settings.call_timeout_seconds,
            self._repository.calls,
            key_name,
        )

    def trace(self, tracing: TableTracing) -> None:
        """Trace every call from now on."""
        self._calling = tracing.calling(self._calling)

    def set_observer(self, observer: CallObserver) -> None:
        """Report the results of every read and write from now on to an observer."""
        self._observer = observer

    def observe(self, operation: Operation, results: Sequence[object]) -> None:
        """Report the results of one call to the observer, if there is one."""
        if self._observer is not None:
            self._observer.observe(operation, results)

    @asynccontextmanager
    async def client(self, operation: str, table_name: str) -> AsyncIterator[Any]:
        """Yield the client for one call, whose response is read in the same context.

        Args:
            operation: Name of the API operation, such as `GetItem`.
            table_name: Table to name in errors and traces.

        Raises:
            AWSError: The call failed, or its response is malformed.
        """
        timeout_seconds = self.settings.call_timeout_seconds
        async with (
            self._repository.dynamodb_resource() as resource,
            self._calling(operation, timeout_seconds, self._repository.calls, target=table_name),
        ):
            yield resource.meta.client

    async def get(
        self, operation: Operation, table_name: str, key: dict[str, str]
    ) -> dict[str, Any] | None:
        """Read one item consistently and report the result to the observer.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        try:
            item = await self.read(table_name, key)
        except AWSError as error:
            self.observe(operation, [error])
            raise
        self.observe(operation, [item])
        return item

    async def read(self, table_name: str, key: dict[str, str]) -> dict[str, Any] | None:
        """Read one item consistently, without reporting to the observer.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        async with self.client("GetItem", table_name) as client:
            response = await client.get_item(TableName=table_name, Key=key, ConsistentRead=True)
            item: dict[str, Any] | None = response.get("Item")
            # Absent means a response without an item; a malformed or different item is an error.
            if item is not None and any(item[name] != value for name, value in key.items()):
                raise AWSUnavailableError(f"GetItem {table_name}: item with a different key")
            return item

    def read_probe(self, operation: Operation, table_name: str, *key_names: str) -> Probe:
        """Return a read of a key that does not exist."""
        read = partial(self.read, table_name, dict.fromkeys(key_names, PROBE))
        return Probe(operation, "dynamodb:GetItem", f"table {table_name}", read)

    async def pages(self, operation: str, **request: Any) -> AsyncIterator[dict[str, Any]]:
        """Yield the items of a Query or Scan, reading one page at a time.

        Args:
            operation: `Query` or `Scan`.
            request: Parameters of the operation.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        while True:
            async with self.client(operation, request["TableName"]) as client:
                response = await getattr(client, operation.lower())(**request)
                items = response.get("Items", [])
                if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
                    raise AWSUnavailableError(f"{operation}: malformed page of items")
            for item in items:
                yield item
            if not response.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    async def update(self, update: Update) -> None:
        """Update an item if it exists and is as expected.

        Raises:
            AWSError: The table cannot be reached, or the update is not permitted.
        """
        partiql = self.settings.write_api == "batch"
        operation = "ExecuteStatement" if partiql else "UpdateItem"
        try:
            async with self.client(operation, update.table_name) as client:
                if partiql:
                    await client.execute_statement(**update.execute_statement())
                else:
                    await client.update_item(**update.update_item())
        except AWSRejectedError as error:
            if "ConditionalCheckFailed" not in str(error):
                raise
