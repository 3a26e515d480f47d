"""In-memory simulation of the client of an aioboto3 DynamoDB resource."""
# ruff: noqa: N803 - AWS's parameter names

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from tests.simulation.aws_errors import dynamodb_error, metadata
from tests.simulation.dynamodb_expressions import (
    Existence,
    ExpressionError,
    assignments,
    existence_conditions,
    insert_statement,
    key_condition,
    update_statement,
)
from tests.simulation.dynamodb_values import size, to_response, to_stored, to_stored_value
from tests.simulation.simulated_network import SimulatedNetwork
from tests.simulation.simulated_table import Key, KeyMismatchError, Record, SimulatedTable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tests.simulation.faults import Faults

_MAX_STATEMENTS = 25
_MAX_PAGE_BYTES = 1024 * 1024
_REFUSED = "The conditional request failed"
_STATEMENT_FAULTS = ("ThrottlingError", "ProvisionedThroughputExceeded", "InternalServerError")


class SimulatedDynamoDB:
    """DynamoDB API with tables in memory and injected faults.

    Args:
        faults: Faults to inject.
        mutable_tables: Tables whose items may change; in others that is a violation.
    """

    def __init__(self, faults: Faults, *, mutable_tables: Collection[str] = ()) -> None:
        self.faults = faults
        self.tables: dict[str, SimulatedTable] = {}
        self._mutable_tables = mutable_tables
        self._network = SimulatedNetwork(
            "dynamodb",
            faults,
            lambda operation, code, status: dynamodb_error(operation, code, status=status),
            (
                "ThrottlingException",
                "ProvisionedThroughputExceededException",
                "RequestLimitExceeded",
            ),
        )

    def verify(self) -> None:
        """Raise RecordsChangedError if a stored item has changed or is missing."""
        for table in self.tables.values():
            table.verify()

    async def create_table(
        self, *, TableName: str, KeySchema: Sequence[Mapping[str, str]], **options: Any
    ) -> dict[str, Any]:
        description = {
            **options,
            "TableName": TableName,
            "KeySchema": [dict(element) for element in KeySchema],
            "TableStatus": "ACTIVE",
            "TableArn": f"arn:aws:dynamodb:eu-west-1:000000000000:table/{TableName}",
        }
        return await self._network.call("CreateTable", partial(self._create, description))

    async def describe_table(self, *, TableName: str) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            table = self._table("DescribeTable", TableName)
            return _response(Table={**table.description, "ItemCount": len(table)})

        return await self._network.call("DescribeTable", effect)

    async def put_item(
        self,
        *,
        TableName: str,
        Item: Mapping[str, Any],
        ConditionExpression: Any = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        with _validated("PutItem"):
            conditions = existence_conditions(ConditionExpression, ExpressionAttributeNames)
        effect = partial(self._put, TableName, to_stored(Item), conditions)
        return await self._network.call("PutItem", effect)

    async def get_item(
        self, *, TableName: str, Key: Mapping[str, Any], ConsistentRead: bool = False
    ) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            table = self._table("GetItem", TableName)
            with _validated("GetItem"):
                record = table.find(table.exact_key(Key))
            seen = self._seen([record] if record else [], consistent=ConsistentRead)
            return _response(Item=to_response(seen[0].item)) if seen else _response()

        return await self._network.call("GetItem", effect, TableName)

    async def query(
        self,
        *,
        TableName: str,
        KeyConditionExpression: Any,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ScanIndexForward: bool = True,
        ConsistentRead: bool = False,
        Limit: int | None = None,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            table = self._table("Query", TableName)
            with _validated("Query"):
                records = _queried(
                    table,
                    KeyConditionExpression,
                    ExpressionAttributeNames,
                    ExpressionAttributeValues,
                )
                start = table.exact_key(ExclusiveStartKey) if ExclusiveStartKey else None
            if not ScanIndexForward:
                records.reverse()
            seen = self._seen(records, consistent=ConsistentRead)
            return _page(table, seen, start, Limit, forward=ScanIndexForward)

        return await self._network.call("Query", effect)

    async def scan(
        self,
        *,
        TableName: str,
        ConsistentRead: bool = False,
        Limit: int | None = None,
        ExclusiveStartKey: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        def effect() -> dict[str, Any]:
            table = self._table("Scan", TableName)
            with _validated("Scan"):
                start = table.exact_key(ExclusiveStartKey) if ExclusiveStartKey else None
            records = table.select(lambda _: True, sorted(table.partitions))
            seen = self._seen(records, consistent=ConsistentRead)
            return _page(table, seen, start, Limit, forward=True)

        return await self._network.call("Scan", effect)

    async def update_item(
        self,
        *,
        TableName: str,
        Key: Mapping[str, Any],
        UpdateExpression: str,
        ConditionExpression: Any = None,
        ExpressionAttributeNames: Mapping[str, str] | None = None,
        ExpressionAttributeValues: Mapping[str, Any] | None = None,
        ReturnValues: str = "NONE",
    ) -> dict[str, Any]:
        names, values = ExpressionAttributeNames, ExpressionAttributeValues
        with _validated("UpdateItem"):
            conditions = existence_conditions(ConditionExpression, names)
            changes = to_stored(assignments(UpdateExpression, names, values))

        def effect() -> dict[str, Any]:
            item = self._update(TableName, Key, changes, conditions)
            return (
                _response(Attributes=to_response(item))
                if ReturnValues == "ALL_NEW"
                else _response()
            )

        return await self._network.call("UpdateItem", effect)

    async def execute_statement(
        self, *, Statement: str, Parameters: Sequence[Any] = ()
    ) -> dict[str, Any]:
        parameters = [to_stored_value(value) for value in Parameters]

        def effect() -> dict[str, Any]:
            self._execute_update(Statement, parameters)
            return _response(Items=[])

        return await self._network.call("ExecuteStatement", effect)

    async def batch_execute_statement(
        self, *, Statements: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        if not 1 <= len(Statements) <= _MAX_STATEMENTS:
            message = "Member must have length less than or equal to 25, and at least 1"
            raise dynamodb_error("BatchExecuteStatement", "ValidationException", message)
        statements = [
            (
                statement["Statement"],
                [to_stored_value(value) for value in statement.get("Parameters", ())],
            )
            for statement in Statements
        ]
        effect = partial(self._execute, statements)
        return await self._network.call("BatchExecuteStatement", effect)

    def _create(self, description: dict[str, Any]) -> dict[str, Any]:
        name = description["TableName"]
        if name in self.tables:
            raise dynamodb_error("CreateTable", "ResourceInUseException", f"Table exists: {name}")
        mutable = name in self._mutable_tables
        self.tables[name] = SimulatedTable(description, mutable=mutable)
        return _response(TableDescription=dict(description))

    def _table(self, operation: str, name: str) -> SimulatedTable:
        table = self._find(name)
        if table is None:
            message = "Requested resource not found"
            raise dynamodb_error(operation, "ResourceNotFoundException", message)
        return table

    def _find(self, name: str) -> SimulatedTable | None:
        return None if self.faults.is_missing(name) else self.tables.get(name)

    def _put(
        self, table_name: str, item: dict[str, Any], conditions: tuple[Existence, ...]
    ) -> dict[str, Any]:
        table = self._table("PutItem", table_name)
        with _validated("PutItem"):
            key = table.key_of(item)
            _require("PutItem", conditions, table.find(key))
            table.put(key, item)
        return _response()

    def _update(
        self,
        table_name: str,
        key: Mapping[str, Any],
        changes: dict[str, Any],
        conditions: tuple[Existence, ...],
    ) -> dict[str, Any]:
        table = self._table("UpdateItem", table_name)
        with _validated("UpdateItem"):
            exact_key = table.exact_key(key)
            if changes.keys() & set(table.key_names):
                raise KeyMismatchError("Cannot update attribute: it is part of the key")
            record = table.find(exact_key)
            _require("UpdateItem", conditions, record)
            item = {**(record.item if record else key), **changes}
            table.put(exact_key, item)
        return item

    def _execute_update(self, statement: str, parameters: list[Any]) -> None:
        with _validated("ExecuteStatement"):
            update = update_statement(statement, parameters)
            table = self._table("ExecuteStatement", update.table_name)
            # Equality conditions on other attributes are not supported and rejected as a wrong key.
            key = table.exact_key(update.equal)
            record = table.find(key)
            # Unlike UpdateItem, it never creates an item.
            conditions = (
                Existence(table.key_names[0], exists=True),
                *(Existence(name, exists=False) for name in update.missing),
            )
            _require("ExecuteStatement", conditions, record)
            table.put(key, {**(record.item if record else {}), **update.changes})

    def _execute(self, statements: list[tuple[str, list[Any]]]) -> dict[str, Any]:
        inserts = [self._prepared(*statement) for statement in statements]
        places = Counter(
            (table.name, key) for table, key, _ in (i for i in inserts if isinstance(i, tuple))
        )
        if any(count > 1 for count in places.values()):
            message = "Duplicate keys in one batch"
            raise dynamodb_error("BatchExecuteStatement", "ValidationException", message)
        responses = [
            self._insert(*insert) if isinstance(insert, tuple) else insert for insert in inserts
        ]
        return _response(Responses=responses)

    def _prepared(
        self, text: str, parameters: list[Any]
    ) -> tuple[SimulatedTable, Key, dict[str, Any]] | dict[str, Any]:
        try:
            insert = insert_statement(text)
            if self.faults.denied("dynamodb", "PartiQLInsert"):
                return _statement_error("AccessDenied", "not authorized: dynamodb:PartiQLInsert")
            table = self._find(insert.table_name)
            if table is None:
                return _statement_error("ResourceNotFound", "Requested resource not found")
            item = insert.item(parameters)
            return table, table.key_of(item), item
        except (ExpressionError, KeyMismatchError) as error:
            return _statement_error("ValidationError", str(error))

    def _insert(self, table: SimulatedTable, key: Key, item: dict[str, Any]) -> dict[str, Any]:
        failure: dict[str, Any] | None = None
        if self.faults.happens("failed_statement"):
            code = self.faults.random.choice(_STATEMENT_FAULTS)
            failure = _statement_error(code, code)
            if code != "InternalServerError" or self.faults.coin():
                return failure
        if table.find(key) is not None:
            return failure or _statement_error(
                "DuplicateItem", "Duplicate primary key exists in table"
            )
        try:
            table.put(key, item)
        except KeyMismatchError as error:
            return _statement_error("ValidationError", str(error))
        return failure or {"TableName": table.name}

    def _seen(self, records: list[Record], *, consistent: bool) -> list[Record]:
        if consistent or not records or not self.faults.happens("stale_read"):
            return records
        now = asyncio.get_running_loop().time()
        horizon = now - self.faults.durations.stale_read_seconds
        return [record for record in records if record.written_at < horizon]


@contextmanager
def _validated(operation: str) -> Iterator[None]:
    try:
        yield
    except (ExpressionError, KeyMismatchError) as error:
        raise dynamodb_error(operation, "ValidationException", str(error)) from error


def _require(operation: str, conditions: tuple[Existence, ...], record: Record | None) -> None:
    item = record.item if record else None
    if not all(condition.holds(item) for condition in conditions):
        raise dynamodb_error(operation, "ConditionalCheckFailedException", _REFUSED)


def _queried(
    table: SimulatedTable,
    expression: Any,
    names: Mapping[str, str] | None,
    values: Mapping[str, Any] | None,
) -> list[Record]:
    condition = key_condition(expression, names, values)
    partition_name, *sort_names = table.key_names
    partition = condition.equal.get(partition_name)
    if not isinstance(partition, str):
        raise ExpressionError(f"Query condition missed key schema element: {partition_name}")
    if {*condition.equal, *condition.prefixes} - set(table.key_names):
        raise ExpressionError("Query key condition not supported")
    equal = [condition.equal[name] for name in sort_names if name in condition.equal]
    prefix = "".join(condition.prefixes.get(name, "") for name in sort_names)

    def within(key: Key) -> bool:
        return key[1].startswith(prefix) and (not equal or key[1] == equal[0])

    return table.select(within, [partition])


def _page(
    table: SimulatedTable,
    records: list[Record],
    start: Key | None,
    limit: int | None,
    *,
    forward: bool,
) -> dict[str, Any]:
    items: list[dict[str, Any]] = []
    page_bytes = 0
    last_key: dict[str, Any] = {}
    for record in records:
        key = table.key_of(record.item)
        if start is not None and (key <= start if forward else key >= start):
            continue
        items.append(to_response(record.item))
        page_bytes += size(record.item)
        # Returned even on a full last page, as by DynamoDB: only its absence means the end.
        if len(items) == limit or page_bytes >= _MAX_PAGE_BYTES:
            last_key = {name: record.item[name] for name in table.key_names}
            break
    response = _response(Items=items, Count=len(items), ScannedCount=len(items))
    return {**response, "LastEvaluatedKey": last_key} if last_key else response


def _statement_error(code: str, message: str) -> dict[str, Any]:
    return {"Error": {"Code": code, "Message": message}}


def _response(**members: Any) -> dict[str, Any]:
    return {**members, "ResponseMetadata": metadata()}
