"""Policies: read through a cache, publish, retire and list."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from boto3.dynamodb.conditions import Key
from pydantic import ValidationError

from worker.aws.access import Operation, Probe
from worker.domain.evidence import timestamp
from worker.domain.policy import Policy, PolicyText, in_force
from worker.domain.text_content import TextContent
from worker.errors import (
    AWSError,
    AWSRejectedError,
    AWSUnavailableError,
    PolicyConflictError,
    PolicyNotFoundError,
)
from worker.repository.cache import ReadThroughCache
from worker.repository.dynamodb import POLICY_READS
from worker.repository.tables import TableCalls
from worker.repository.texts import Texts, is_text
from worker.repository.updates import Update
from worker.repository.writes import Inserted, Item, write_retries
from worker.runtime.retry import retry
from worker.runtime.validation import describe


class Policies:
    """Table of policies.

    Args:
        tables: Calls to the tables.
        now: Returns the current time, timezone-aware.
    """

    def __init__(self, tables: TableCalls, now: Callable[[], datetime]) -> None:
        self._tables = tables
        self._settings = tables.settings
        self._table_name = tables.settings.table_name
        self._insert = tables.inserts(self._table_name, key_name="policy_id")
        self._texts = Texts(tables, self._table_name, self._insert_one)
        self._now = now

    def bind(self) -> None:
        """Create what belongs to one event loop, before its first use."""
        ttls = (self._settings.policy_cache_seconds, self._settings.policy_absence_seconds)
        self._cache = ReadThroughCache[Policy](self._read, *ttls)
        self._versions = ReadThroughCache[list[Policy]](self._read_versions, *ttls)
        self._reads = asyncio.Semaphore(POLICY_READS)

    async def get(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        """Return a published version, from the cache if possible; see `AUPRepository.policy`."""
        self._tables.check_owner()
        return await self._cache.get(policy_id, version, recheck=recheck)

    def known(self, policy_id: str, version: str) -> Policy | None:
        """Return a cached version without awaiting; see `AUPRepository.known_policy`."""
        return self._cache.known(policy_id, version)

    async def in_force(self, policy_id: str) -> Policy:
        """Return the version of a policy that is in force now.

        Raises:
            PolicyNotFoundError: No version is in force.
            AWSError: The versions are not cached and cannot be read now.
        """
        self._tables.check_owner()
        current = in_force(await self._versions.get(policy_id) or [], self._now())
        if current is None:
            raise PolicyNotFoundError(f"no version of {policy_id} is in force")
        return current

    async def _read(self, policy_id: str, version: str) -> Policy | None:
        key = {"policy_id": policy_id, "version": version}
        async with self._reads:
            item = await self._tables.get(Operation.READ_POLICY, self._table_name, key)
            if item is None:
                return None
            return await self._with_texts(self._as_policy(item))

    async def _with_texts(self, policy: Policy) -> Policy:
        texts = await self._texts.languages(policy.policy_id, policy.version)
        return policy.model_copy(update={"texts": texts}) if texts else policy

    def _as_policy(self, item: Mapping[str, Any]) -> Policy:
        try:
            return Policy.model_validate(item)
        except ValidationError as error:
            first = error.errors()[0]
            name = f"{item.get('policy_id')} {item.get('version')}"
            raise AWSRejectedError(
                f"{name} in {self._table_name} is malformed: "
                f"{first['loc'][0]}: {describe(first)}; correct the item"
            ) from None

    async def published(self, policy_id: str | None = None) -> list[Policy]:
        """Return the published versions of one policy or of all, without the cache."""
        versions = await self._published(policy_id)
        return [await self._with_texts(each) for each in versions]

    async def _published(self, policy_id: str | None) -> list[Policy]:
        request: dict[str, Any] = {"TableName": self._table_name, "ConsistentRead": True}
        if policy_id is None:
            pages = self._tables.pages("Scan", **request)
        else:
            condition = Key("policy_id").eq(policy_id)
            pages = self._tables.pages("Query", KeyConditionExpression=condition, **request)
        items = [item async for item in pages if not is_text(item)]
        found = map(self._as_policy, items)
        return sorted(found, key=lambda policy: (policy.policy_id, policy.effective_at))

    async def _read_versions(self, policy_id: str) -> list[Policy] | None:
        return await self._published(policy_id) or None

    async def publish(self, policy: Policy, content: TextContent | None) -> Policy:
        """Publish a version; see `AUPRepository.publish_policy`."""
        self._tables.check_owner()
        if content is not None:
            await self._texts.store(content)
        item = _policy_item(policy)
        policy = self._as_policy(item)  # with the precision of the stored times
        if await self._insert_one(item) is Inserted.EXISTS:
            return await self._published_before(policy)
        self._invalidate(policy.policy_id, policy.version)
        return policy

    async def publish_text(
        self, policy_id: str, version: str, text: PolicyText, content: TextContent | None
    ) -> Policy:
        """Add a language to a version; see `AUPRepository.publish_text`."""
        self._tables.check_owner()
        policy = await self._read(policy_id, version)
        if policy is None:
            raise PolicyNotFoundError(
                f"{policy_id} {version} is not published; publish its default text first"
            )
        if content is not None:
            await self._texts.store(content)
        published_at = timestamp(self._now())
        texts = await self._texts.add_language(policy_id, version, text, published_at)
        self._invalidate(policy_id, version)
        return policy.model_copy(update={"texts": texts})

    async def content(self, sha256: str) -> TextContent | None:
        """Return the text with a hash; see `AUPRepository.policy_text`."""
        return await self._texts.content(sha256)

    async def _insert_one(self, item: Item) -> Inserted:
        deadline = asyncio.get_running_loop().time() + self._settings.call_timeout_seconds
        return await retry(write_retries(self._settings), self._try_insert, item, until=deadline)

    async def _try_insert(self, item: Item) -> Inserted:
        (result,) = await self._insert([item])
        if isinstance(result, AWSError):
            raise result
        return result

    async def _published_before(self, policy: Policy) -> Policy:
        existing = await self._read(policy.policy_id, policy.version)
        if existing is None:
            raise AWSUnavailableError("GetItem: existing policy missing from the response")
        starts_with_publication = policy.effective_at == policy.published_at
        same_start = starts_with_publication or policy.effective_at == existing.effective_at
        if existing.same_text(policy) and same_start:
            return existing
        raise PolicyConflictError(
            f"{policy.policy_id} {policy.version} is already published with a different text, "
            f"title or start (content_sha256 {existing.content_sha256}); publish a new version"
        )

    async def retire(
        self, policy_id: str, version: str, *, retired_at: datetime | None = None
    ) -> Policy:
        """Retire a version; see `AUPRepository.retire_policy`."""
        key = {"policy_id": policy_id, "version": version}
        end = {"retired_at": timestamp(retired_at or self._now())}
        await self._tables.update(Update(self._table_name, key, added=end))
        self._invalidate(policy_id, version)
        stored = await self._read(policy_id, version)
        if stored is None:
            raise PolicyNotFoundError(f"{policy_id} {version} is not published")
        if stored.retired_at is None:
            raise AWSRejectedError(
                f"{policy_id} {version} in {self._table_name}: retired_at is null; "
                "remove the attribute"
            )
        return stored

    def _invalidate(self, policy_id: str, version: str) -> None:
        self._cache.invalidate(policy_id, version)
        self._versions.invalidate(policy_id)

    def probes(self) -> list[Probe]:
        """Return a read of a key that does not exist."""
        keys = ("policy_id", "version")
        return [self._tables.read_probe(Operation.READ_POLICY, self._table_name, *keys)]


def _policy_item(policy: Policy) -> dict[str, Any]:
    item: dict[str, Any] = policy.model_dump(exclude_none=True, exclude={"texts"})
    return {
        name: timestamp(value) if isinstance(value, datetime) else value
        for name, value in item.items()
    }
