"""The one repository of acceptances and policies."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from boto3.dynamodb.conditions import Attr, ConditionBase, Key
from pydantic import ValidationError

from worker.aws.access import CallObserver, Operation, Probe
from worker.aws.calls import Calling, calling
from worker.domain.acceptance import Acceptance
from worker.domain.evidence import NO_REDUCTIONS, build_item, same_content, timestamp
from worker.domain.policy import Policy, in_force
from worker.domain.privacy import reduce, reduces
from worker.errors import (
    AWSError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    PolicyConflictError,
    PolicyNotFoundError,
)
from worker.repository.cache import ReadThroughCache
from worker.repository.dynamodb import POLICY_READS, DynamoDBRepository
from worker.repository.updates import Update
from worker.repository.writes import (
    PROBE,
    AdaptiveConcurrency,
    BatchInserts,
    ConditionalPuts,
    Inserted,
    InsertResult,
    Inserts,
    Item,
)
from worker.runtime.backoff import full_jitter
from worker.runtime.batcher import Batcher
from worker.settings import AWSSettings

if TYPE_CHECKING:
    import aioboto3

_RETRY_BASE_SECONDS: Final = 0.1
_RETRY_CAP_SECONDS: Final = 2.0
# On the wire a character takes six bytes at most, and DynamoDB takes 16 MB in a request.
_BATCH_MAX_CHARACTERS: Final = 1_000_000
# One removes, one confirms; the rest is for others who erase the same record at this moment.
_ERASE_ATTEMPTS: Final = 5


class RecordResult(StrEnum):
    """What `record` found."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


ScanKey = dict[str, Any]


@dataclass(frozen=True, slots=True)
class TableSize:
    """How much a table holds, about."""

    items: int
    bytes: int


@dataclass(frozen=True, slots=True)
class ScanPage:
    """What one page of a scan gave.

    Attributes:
        accepted_at: of each acceptance that was asked for, as it was stated.
        scanned: how many items were read.
        read_units: what that cost.
        next_key: where the next page begins; none after the last.
    """

    accepted_at: list[str]
    scanned: int
    read_units: float
    next_key: ScanKey | None


class TableTracing(Protocol):
    """What follows the calls to the tables, where that is asked for."""

    def inserts(self, inserts: Inserts, table_name: str) -> Inserts:
        """Give inserts that do the same and are followed."""

    def calling(self, calling: Calling) -> Calling:
        """Give a way to call that does the same and is followed."""


def _now() -> datetime:
    return datetime.now(UTC)


class AUPRepository(DynamoDBRepository):
    """Keep acceptances, once each, and read and publish policies.

    One per process: `AUPRepository(aws_settings) is AUPRepository(aws_settings)`. Safe for any
    number of concurrent tasks of one event loop; their writes are gathered into shared calls.

    Args:
        aws_settings: tables, endpoint, concurrency and caching.
        session: instead of one from the environment.
        now: gives the present time, aware.
    """

    def __init__(
        self,
        aws_settings: AWSSettings,
        session: aioboto3.Session | None = None,
        now: Callable[[], datetime] = _now,
    ) -> None:
        super().__init__(aws_settings, session)
        self.table_name = aws_settings.table_name
        self.user_table_name = aws_settings.user_table_name
        self._now = now
        self._reduces = reduces(aws_settings)
        self._policies = ReadThroughCache[Policy](
            self._read_policy,
            seconds=aws_settings.policy_cache_seconds,
            absence_seconds=aws_settings.policy_absence_seconds,
        )
        self._versions = ReadThroughCache[list[Policy]](
            self._read_versions,
            seconds=aws_settings.policy_cache_seconds,
            absence_seconds=aws_settings.policy_absence_seconds,
        )
        way: type[BatchInserts | ConditionalPuts]
        way = BatchInserts if aws_settings.write_api == "batch" else ConditionalPuts
        self._calling: Calling = calling
        self._observer: CallObserver | None = None
        self._own_insert = way(
            self.dynamodb_caller,
            self.user_table_name,
            aws_settings.call_timeout_seconds,
            self.calls,
        )
        self._insert: Inserts = self._own_insert
        self._insert_policy: Inserts = way(
            self.dynamodb_caller,
            self.table_name,
            aws_settings.call_timeout_seconds,
            self.calls,
            key_name="policy_id",
        )
        self._writes: Batcher[Item, Inserted] | None = None
        self._concurrency = AdaptiveConcurrency(aws_settings.write_concurrency, lambda: 0.0)
        self._lookups = asyncio.Semaphore(aws_settings.write_concurrency)
        self._policy_reads = asyncio.Semaphore(POLICY_READS)

    def _adopt(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._adopt(loop)
        limit = self.aws_settings.write_concurrency
        self._policies.clear()
        self._versions.clear()
        self._concurrency = AdaptiveConcurrency(limit, loop.time)
        self._lookups = asyncio.Semaphore(limit)
        self._policy_reads = asyncio.Semaphore(POLICY_READS)
        self._writes = Batcher(
            self._insert_and_learn,
            max_entries=self._insert.max_items,
            concurrency=limit,
            max_bytes=_BATCH_MAX_CHARACTERS,
            key=lambda item: (item["user_id"], item["policy_version"]),
            size=lambda item: sum(map(len, item.values())),
        )

    @property
    def write_concurrency(self) -> int:
        """How many writes may be under way now; falls while the table throttles."""
        return self._concurrency.allowed

    def trace(self, tracing: TableTracing) -> None:
        """Let every call from now on be followed."""
        self._calling = tracing.calling(self._calling)
        self._insert = tracing.inserts(self._insert, self.user_table_name)

    def observe(self, observer: CallObserver) -> None:
        """Have the results of every read and write from now on observed."""
        self._observer = observer

    def _observe(self, operation: Operation, results: Sequence[object]) -> None:
        if self._observer is not None:
            self._observer.observe(operation, results)

    async def record(
        self, acceptance: Acceptance, *, received_at: datetime | None = None
    ) -> RecordResult:
        """Insert an acceptance unless its key is taken; the first record wins.

        Args:
            acceptance: what the application stated.
            received_at: when SQS took the message; now, if absent.

        Returns:
            `RECORDED`: it is kept, by this call. `DUPLICATE`: the user's acceptance of this version
            was kept before, by whatever program. `CONFLICT`: so it was, under the same `event_id`
            with other content.

        Raises:
            AWSThrottledError: the table still throttled after the last attempt.
            AWSRejectedError: DynamoDB will never take this item.
            AWSError: the table cannot be reached, found or written.
        """
        self._check_owner()
        now = self._now()
        reductions = NO_REDUCTIONS
        if self._reduces:
            acceptance, reductions = reduce(acceptance, self.aws_settings)
        item = build_item(
            acceptance, received_at=received_at or now, recorded_at=now, reductions=reductions
        )
        assert self._writes is not None  # noqa: S101 - _check_owner has adopted a loop
        if await self._insert_patiently(self._writes.submit, item) is Inserted.NEW:
            return RecordResult.RECORDED
        existing = await self._existing(item)
        if existing.get("record_id") == item["record_id"]:
            return RecordResult.RECORDED  # our own write had landed, its answer was lost
        # An item of another program may name no event: then it contradicts none.
        same_event = existing.get("event_id") == item["event_id"]
        if same_event and not same_content(existing, acceptance, reductions):
            return RecordResult.CONFLICT
        return RecordResult.DUPLICATE

    async def _insert_patiently(
        self, insert: Callable[[Item], Awaitable[Inserted]], item: Item
    ) -> Inserted:
        loop = self._loop
        assert loop is not None  # noqa: S101 - _check_owner has adopted it
        deadline = loop.time() + self.aws_settings.call_timeout_seconds
        attempt = 0
        while True:
            attempt += 1
            try:
                return await insert(item)
            except (AWSThrottledError, AWSUnavailableError):
                delay = full_jitter(
                    attempt, base_seconds=_RETRY_BASE_SECONDS, cap_seconds=_RETRY_CAP_SECONDS
                )
                out_of_time = loop.time() + delay >= deadline
                if attempt >= self.aws_settings.write_attempts or out_of_time:
                    raise
            await asyncio.sleep(delay)

    async def _insert_and_learn(self, items: Sequence[Item]) -> Sequence[InsertResult]:
        assert self._writes is not None  # noqa: S101 - it calls us
        results: Sequence[InsertResult]
        try:
            results = await self._insert(items)
        except AWSThrottledError as error:
            results = [error] * len(items)
        except AWSError as error:
            self._observe(Operation.WRITE, [error])
            raise
        self._observe(Operation.WRITE, results)
        self._concurrency.learn(results)
        self._writes.concurrency = self._concurrency.allowed
        return results

    async def _existing(self, item: Item) -> dict[str, Any]:
        key = {"user_id": item["user_id"], "policy_version": item["policy_version"]}
        async with self._lookups:
            existing = await self._get(self.user_table_name, key)
        if existing is None:
            # The insert said that it exists and nothing deletes: this answer is not to be believed.
            raise AWSUnavailableError("GetItem: the record that exists was not answered")
        return existing

    def _call(self, operation: str, table_name: str) -> AbstractAsyncContextManager[None]:
        timeout = self.aws_settings.call_timeout_seconds
        return self._calling(operation, timeout, self.calls, target=table_name)

    async def _get(self, table_name: str, key: dict[str, str]) -> dict[str, Any] | None:
        of_policies = table_name == self.table_name
        operation = Operation.READ_POLICY if of_policies else Operation.LOOK_UP
        try:
            item = await self._read(table_name, key)
        except AWSError as error:
            self._observe(operation, [error])
            raise
        self._observe(operation, [item])
        return item

    async def _read(self, table_name: str, key: dict[str, str]) -> dict[str, Any] | None:
        async with (
            self.dynamodb_resource() as resource,
            self._call("GetItem", table_name),
        ):
            answer = await resource.meta.client.get_item(
                TableName=table_name, Key=key, ConsistentRead=True
            )
            item: dict[str, Any] | None = answer.get("Item")
            # Absent is only what is not there: an item of another form or key is another response.
            if item is not None and any(item[name] != value for name, value in key.items()):
                raise AWSUnavailableError(f"GetItem {table_name}: an item of another key")
            return item

    async def policy(self, policy_id: str, version: str) -> Policy | None:
        """Give a published version, from the cache where it is known.

        Raises:
            AWSError: it was never read and cannot be read now.
        """
        self._check_owner()
        return await self._policies.get(policy_id, version)

    async def _read_policy(self, policy_id: str, version: str) -> Policy | None:
        async with self._policy_reads:
            item = await self._get(self.table_name, {"policy_id": policy_id, "version": version})
        return self._as_policy(item) if item is not None else None

    def _as_policy(self, item: Mapping[str, Any]) -> Policy:
        try:
            return Policy.model_validate(item)
        except ValidationError as error:
            first = error.errors()[0]
            name = f"{item.get('policy_id')} {item.get('version')}"
            raise AWSRejectedError(
                f"{name} in {self.table_name} is not as "
                f"`policy publish` writes it: {first['loc'][0]}: {first['msg']}; correct the item"
            ) from None

    async def policies(self, policy_id: str | None = None) -> list[Policy]:
        """List published versions, of one policy or of all, read anew."""
        if policy_id is not None:
            return await self._read_versions(policy_id) or []
        pages = self._pages("Scan", TableName=self.table_name, ConsistentRead=True)
        found = [item async for item in pages]
        policies = [self._as_policy(item) for item in found]
        return sorted(policies, key=lambda policy: (policy.policy_id, policy.effective_at))

    async def _read_versions(self, policy_id: str) -> list[Policy] | None:
        pages = self._pages(
            "Query",
            TableName=self.table_name,
            KeyConditionExpression=Key("policy_id").eq(policy_id),
            ConsistentRead=True,
        )
        found = [self._as_policy(item) async for item in pages]
        return sorted(found, key=lambda policy: policy.effective_at) or None

    async def publish_policy(self, policy: Policy) -> Policy:
        """Publish a version; publishing the same text again changes nothing.

        Returns:
            The version as the table holds it.

        Raises:
            PolicyConflictError: the version is published with another text, title or start.
        """
        self._check_owner()
        item = _policy_item(policy)
        policy = self._as_policy(item)  # with the precision that the table keeps
        if await self._insert_patiently(self._insert_one_policy, item) is Inserted.EXISTS:
            return await self._published_before(policy)
        self._forget_policy(policy.policy_id, policy.version)
        return policy

    async def _insert_one_policy(self, item: Item) -> Inserted:
        (result,) = await self._insert_policy([item])
        if isinstance(result, AWSError):
            raise result
        return result

    async def _published_before(self, policy: Policy) -> Policy:
        existing = await self._read_policy(policy.policy_id, policy.version)
        if existing is None:
            raise AWSUnavailableError("GetItem: the policy that exists was not answered")
        starts_with_publication = policy.effective_at == policy.published_at
        same_start = starts_with_publication or policy.effective_at == existing.effective_at
        if existing.same_text(policy) and same_start:
            return existing
        raise PolicyConflictError(
            f"{policy.policy_id} {policy.version} is published with another text, title or start "
            f"(its hash is {existing.content_sha256}): publish a new version instead"
        )

    async def retire_policy(
        self, policy_id: str, version: str, *, retired_at: datetime | None = None
    ) -> Policy:
        """End the time in which users are asked to accept a version; the first end stays.

        Args:
            policy_id: Policy id.
            version: Policy version.
            retired_at: The end, aware; now, if absent.

        Returns:
            The version with the end that holds, whoever set it first.

        Raises:
            PolicyNotFoundError: The version was never published.
            AWSError: The table cannot be reached, or the update is not permitted.
        """
        key = {"policy_id": policy_id, "version": version}
        end = {"retired_at": timestamp(retired_at or self._now())}
        await self._update(Update(self.table_name, key, added=end))
        self._forget_policy(policy_id, version)
        kept = await self._read_policy(policy_id, version)
        if kept is None:
            raise PolicyNotFoundError(f"{policy_id} {version} is not published")
        if kept.retired_at is None:
            raise AWSRejectedError(
                f"{policy_id} {version} in {self.table_name}: retired_at is null; remove it"
            )
        return kept

    async def _update(self, update: Update) -> bool:
        """Update an item, and return whether it existed and was as expected."""
        partiql = self.aws_settings.write_api == "batch"
        operation = "ExecuteStatement" if partiql else "UpdateItem"
        try:
            async with (
                self.dynamodb_resource() as resource,
                self._call(operation, update.table_name),
            ):
                client: Any = resource.meta.client
                if partiql:
                    await client.execute_statement(**update.execute_statement())
                else:
                    await client.update_item(**update.update_item())
        except AWSRejectedError as error:
            if "ConditionalCheckFailed" not in str(error):
                raise
            return False
        return True

    def _forget_policy(self, policy_id: str, version: str) -> None:
        self._policies.forget(policy_id, version)
        self._versions.forget(policy_id)

    async def has_accepted(self, user_id: str, policy_id: str) -> bool:
        """Say whether a user has accepted the version of a policy that is in force now.

        Raises:
            PolicyNotFoundError: no version is in force.
        """
        self._check_owner()
        current = in_force(await self._versions.get(policy_id) or [], self._now())
        if current is None:
            raise PolicyNotFoundError(f"no version of {policy_id} is in force")
        key = {"user_id": user_id, "policy_version": f"{policy_id}#{current.version}"}
        return await self._get(self.user_table_name, key) is not None

    async def acceptances(
        self, user_id: str, policy_id: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Give what a user accepted, page by page, ordered by policy and version.

        Args:
            user_id: who.
            policy_id: only this policy.

        Yields:
            Items as they are kept; `worker.domain.evidence` tells their format.
        """
        condition = Key("user_id").eq(user_id)
        if policy_id is not None:
            condition &= Key("policy_version").begins_with(f"{policy_id}#")
        async for item in self._records(condition):
            yield item

    def _records(self, condition: ConditionBase) -> AsyncIterator[dict[str, Any]]:
        return self._pages(
            "Query",
            TableName=self.user_table_name,
            KeyConditionExpression=condition,
            ConsistentRead=True,
        )

    async def erase(self, item: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
        """Remove fields and their salts from a record, unless it changed meanwhile.

        The condition names nothing but what is removed, so that the eraser's role need not be
        allowed to name, and so to set, anything else.

        Args:
            item: The record as it was read.
            fields: Erasable fields.

        Returns:
            The record as it is kept now.

        Raises:
            AWSRejectedError: The record is gone, is another one, or is not one of this program.
            AWSError: The table cannot be reached, or the update is not permitted.
        """
        key = {name: item[name] for name in ("user_id", "policy_version")}
        wanted = [each for name in fields for each in (name, f"{name}_salt")]
        expected = item.get("record_sha256")
        for _ in range(_ERASE_ATTEMPTS):
            kept = await self._kept(key)
            if expected is None or kept is None or kept.get("record_sha256") != expected:
                break
            removed = {name: kept[name] for name in wanted if name in kept}
            if not removed:
                return kept
            await self._update(Update(self.user_table_name, key, removed=removed))
        raise AWSRejectedError("the record has changed or is gone")

    async def _kept(self, key: Mapping[str, str]) -> dict[str, Any] | None:
        """Read a record by Query, the one way to read that the eraser's role has."""
        condition = Key("user_id").eq(key["user_id"])
        condition &= Key("policy_version").eq(key["policy_version"])
        found = [item async for item in self._records(condition)]
        return found[0] if found else None

    async def user_table_size(self) -> TableSize:
        """Give the size of the table of acceptances; DynamoDB counts anew every six hours or so.

        Source: DynamoDB API reference, TableDescription.
        """
        async with (
            self.dynamodb_resource() as resource,
            self._call("DescribeTable", self.user_table_name),
        ):
            answer = await resource.meta.client.describe_table(TableName=self.user_table_name)
            table = answer["Table"]
            return TableSize(int(table.get("ItemCount", 0)), int(table.get("TableSizeBytes", 0)))

    async def scan_acceptances(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        """Read one page of one segment of the table of acceptances, eventually consistent.

        Args:
            policy_version: of which acceptances; others are read and paid for, and left out.
            segment: which, from 0.
            segments: into how many the table is cut.
            items: read at most.
            after: where the page before ended.

        Raises:
            AWSThrottledError: the table has no read units left for it now.
            AWSError: the table cannot be reached, or Scan is not permitted.
        """
        request: dict[str, Any] = {
            "TableName": self.user_table_name,
            "Segment": segment,
            "TotalSegments": segments,
            "Limit": items,
            "FilterExpression": Attr("policy_version").eq(policy_version),
            "ProjectionExpression": "accepted_at",
            "ReturnConsumedCapacity": "TOTAL",
        }
        if after is not None:
            request["ExclusiveStartKey"] = after
        async with self.dynamodb_resource() as resource, self._call("Scan", self.user_table_name):
            answer = await resource.meta.client.scan(**request)
            return ScanPage(
                [str(item.get("accepted_at", "")) for item in answer.get("Items", [])],
                int(answer.get("ScannedCount", 0)),
                float(answer.get("ConsumedCapacity", {}).get("CapacityUnits", 0)),
                answer.get("LastEvaluatedKey") or None,
            )

    async def _pages(self, operation: str, **request: Any) -> AsyncIterator[dict[str, Any]]:
        while True:
            async with (
                self.dynamodb_resource() as resource,
                self._call(operation, request["TableName"]),
            ):
                call: Any = getattr(resource.meta.client, operation.lower())
                answer = await call(**request)
                items = answer.get("Items", [])
                if not isinstance(items, list) or not all(isinstance(each, dict) for each in items):
                    raise AWSUnavailableError(f"{operation}: an item of another form")
            for item in items:
                yield item
            if not answer.get("LastEvaluatedKey"):
                return
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def probes(self) -> list[Probe]:
        """Return reads of keys that do not exist, and a write that cannot succeed.

        A read that is rejected means that the table has other keys.
        """
        policies, acceptances = f"table {self.table_name}", f"table {self.user_table_name}"
        read, write = "dynamodb:GetItem", self._own_insert.action
        return [
            Probe(Operation.READ_POLICY, read, policies, self._read_no_policy),
            Probe(Operation.LOOK_UP, read, acceptances, self._look_up_nothing),
            Probe(Operation.WRITE, write, acceptances, self._own_insert.attempt),
        ]

    async def _read_no_policy(self) -> None:
        await self._read(self.table_name, {"policy_id": PROBE, "version": PROBE})

    async def _look_up_nothing(self) -> None:
        await self._read(self.user_table_name, {"user_id": PROBE, "policy_version": PROBE})

    async def aclose(self) -> None:
        """Stop writing and close the resource; callers get RepositoryClosedError."""
        if self._writes is not None and self._loop is asyncio.get_running_loop():
            await self._writes.aclose(self._closed_error())
        await super().aclose()


def _policy_item(policy: Policy) -> dict[str, Any]:
    item: dict[str, Any] = policy.model_dump(exclude_none=True)
    return {
        name: timestamp(value) if isinstance(value, datetime) else value
        for name, value in item.items()
    }
