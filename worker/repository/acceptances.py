"""Recorded acceptances: insert once, look up, list, scan and erase."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from operator import itemgetter
from typing import Any, Final

from boto3.dynamodb.conditions import Attr, ConditionBase, Key

from worker.aws.access import Operation, Probe
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import build_item, same_content
from worker.domain.origin import Origin
from worker.domain.policy import PolicyText
from worker.domain.privacy import reduce
from worker.errors import AWSError, AWSRejectedError, AWSThrottledError, AWSUnavailableError
from worker.repository.tables import TableCalls, TableTracing
from worker.repository.updates import Update
from worker.repository.writes import (
    AdaptiveConcurrency,
    Inserted,
    InsertResult,
    Inserts,
    Item,
    write_retries,
)
from worker.runtime.batcher import Batcher
from worker.runtime.retry import TRANSIENT, retry

# A character takes at most six bytes in JSON, and a request at most 16 MB.
_BATCH_MAX_CHARACTERS: Final = 1_000_000
# Of an item without unknown fields and edits.
_ITEM_MAX_CHARACTERS: Final = 10_000
# One to remove and one to confirm; the others allow for concurrent erasures of the same record.
_ERASE_ATTEMPTS: Final = 5


class RecordResult(StrEnum):
    """Result of recording an acceptance."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


ScanKey = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TableSize:
    """Approximate size of a table."""

    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ScanPage:
    """One page of a scan.

    Attributes:
        accepted_at: `accepted_at` of each matching acceptance, as stated.
        scanned: Number of items read.
        read_units: Read units consumed.
        next_key: Start key of the next page; None after the last page.
    """

    accepted_at: list[str]
    scanned: int
    read_units: float
    next_key: ScanKey | None


class Acceptances:
    """Table of recorded acceptances.

    Args:
        tables: Calls to the tables.
        now: Returns the current time, timezone-aware.
    """

    def __init__(self, tables: TableCalls, now: Callable[[], datetime]) -> None:
        self._tables = tables
        self._settings = tables.settings
        self._table_name = tables.settings.user_table_name
        self._now = now
        self._untraced_insert = tables.inserts(self._table_name, key_name="user_id")
        self._insert: Inserts = self._untraced_insert
        self._concurrency = AdaptiveConcurrency(tables.settings.write_concurrency)
        self._retries = write_retries(tables.settings)

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Create what belongs to one event loop, before its first use."""
        limit = self._settings.write_concurrency
        self._loop = loop
        self._lookups = asyncio.Semaphore(limit)
        self._writes: Batcher[Item, Inserted] = Batcher(
            self._insert_batch,
            max_entries=self._insert.max_items,
            concurrency=limit,
            max_bytes=_BATCH_MAX_CHARACTERS,
            key=itemgetter("user_id", "policy_version"),
            size=_characters,
        )

    def trace(self, tracing: TableTracing) -> None:
        """Trace every insert from now on."""
        self._insert = tracing.inserts(self._insert, self._table_name)

    @property
    def write_concurrency(self) -> int:
        """Current limit of concurrent writes."""
        return self._concurrency.allowed

    async def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin | None = None
    ) -> RecordResult:
        """Insert an acceptance unless its key exists; see `AUPRepository.record`."""
        self._tables.check_owner()
        now = self._now()
        acceptance, reductions = reduce(acceptance, self._settings)
        item = build_item(
            acceptance, text, origin or Origin.at(now), recorded_at=now, reductions=reductions
        )
        started_at = self._loop.time()
        try:
            inserted = await self._writes.submit(item)
        except TRANSIENT as error:
            deadline = started_at + self._settings.call_timeout_seconds
            inserted = await retry(
                self._retries, self._writes.submit, item, failed=error, until=deadline
            )
        if inserted is Inserted.NEW:
            return RecordResult.RECORDED
        existing = await self._existing(item)
        if existing.get("record_id") == item["record_id"]:
            return RecordResult.RECORDED  # an earlier attempt succeeded, its response was lost
        # An item of another program may lack event_id, and then conflicts with nothing.
        same_event = existing.get("event_id") == item["event_id"]
        if same_event and not same_content(existing, acceptance, reductions):
            return RecordResult.CONFLICT
        return RecordResult.DUPLICATE

    async def _insert_batch(self, items: Sequence[Item]) -> Sequence[InsertResult]:
        results: Sequence[InsertResult]
        try:
            results = await self._insert(items)
        except AWSThrottledError as error:
            results = [error] * len(items)
        except AWSError as error:
            self._tables.observe(Operation.WRITE, [error])
            raise
        self._tables.observe(Operation.WRITE, results)
        self._concurrency.adjust(results, self._loop.time())
        self._writes.concurrency = self._concurrency.allowed
        return results

    async def _existing(self, item: Item) -> dict[str, Any]:
        async with self._lookups:
            existing = await self._tables.get(Operation.LOOK_UP, self._table_name, _key_of(item))
        if existing is None:
            # The insert found the key and nothing deletes records: the response must be wrong.
            raise AWSUnavailableError("GetItem: existing record missing from the response")
        return existing

    async def exists(self, user_id: str, policy_id: str, version: str) -> bool:
        """Return whether a user has accepted a version of a policy.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        key = {"user_id": user_id, "policy_version": f"{policy_id}#{version}"}
        return await self._tables.get(Operation.LOOK_UP, self._table_name, key) is not None

    def of_user(self, user_id: str, policy_id: str | None = None) -> AsyncIterator[dict[str, Any]]:
        """Return an iterator over the acceptances of a user; see `AUPRepository.acceptances`."""
        condition = Key("user_id").eq(user_id)
        if policy_id is not None:
            condition &= Key("policy_version").begins_with(f"{policy_id}#")
        return self._query(condition)

    def _query(self, condition: ConditionBase) -> AsyncIterator[dict[str, Any]]:
        return self._tables.pages(
            "Query",
            TableName=self._table_name,
            KeyConditionExpression=condition,
            ConsistentRead=True,
        )

    async def erase(self, item: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
        """Remove fields and their salts from a record; see `AUPRepository.erase`.

        The condition names only the removed attributes: what the eraser's role may name in a
        condition, it may also set.
        """
        key = _key_of(item)
        wanted = [each for name in fields for each in (name, f"{name}_salt")]
        expected = item.get("record_sha256")
        # Not `retry`: a failed condition needs a new read instead of a delay.
        for _ in range(_ERASE_ATTEMPTS):
            stored = await self._stored(key)
            if expected is None or stored is None or stored.get("record_sha256") != expected:
                break
            removed = {name: stored[name] for name in wanted if name in stored}
            if not removed:
                return stored
            await self._tables.update(Update(self._table_name, key, removed=removed))
        raise AWSRejectedError("the record has changed or is gone")

    async def _stored(self, key: Mapping[str, str]) -> dict[str, Any] | None:
        """Read a record by Query, the only read that the eraser's role permits."""
        condition = Key("user_id").eq(key["user_id"])
        condition &= Key("policy_version").eq(key["policy_version"])
        found = [item async for item in self._query(condition)]
        return found[0] if found else None

    async def table_size(self) -> TableSize:
        """Return the approximate size of the table; see `AUPRepository.user_table_size`."""
        async with self._tables.client("DescribeTable", self._table_name) as client:
            response = await client.describe_table(TableName=self._table_name)
            table = response["Table"]
            return TableSize(int(table.get("ItemCount", 0)), int(table.get("TableSizeBytes", 0)))

    async def scan(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        """Read one page of one segment of the table; see `AUPRepository.scan_acceptances`."""
        request: dict[str, Any] = {
            "TableName": self._table_name,
            "Segment": segment,
            "TotalSegments": segments,
            "Limit": items,
            "FilterExpression": Attr("policy_version").eq(policy_version),
            "ProjectionExpression": "accepted_at",
            "ReturnConsumedCapacity": "TOTAL",
        }
        if after is not None:
            request["ExclusiveStartKey"] = after
        async with self._tables.client("Scan", self._table_name) as client:
            response = await client.scan(**request)
            return ScanPage(
                [str(item.get("accepted_at", "")) for item in response.get("Items", [])],
                int(response.get("ScannedCount", 0)),
                float(response.get("ConsumedCapacity", {}).get("CapacityUnits", 0)),
                response.get("LastEvaluatedKey") or None,
            )

    def probes(self) -> list[Probe]:
        """Return a read of a key that does not exist, and a write that cannot succeed."""
        keys = ("user_id", "policy_version")
        target, insert = f"table {self._table_name}", self._untraced_insert
        return [
            self._tables.read_probe(Operation.LOOK_UP, self._table_name, *keys),
            Probe(Operation.WRITE, insert.action, target, insert.attempt),
        ]

    async def aclose(self, error: Exception) -> None:
        """Cancel the writes in flight; their callers, and later ones, get the error."""
        await self._writes.aclose(error)


def _characters(item: Item) -> int:
    """Return an upper bound of the characters of an item; two of its values can be large."""
    return _ITEM_MAX_CHARACTERS + len(item.get("extra", "")) + len(item.get("edits", ""))


def _key_of(item: Mapping[str, Any]) -> dict[str, Any]:
    return {"user_id": item["user_id"], "policy_version": item["policy_version"]}
