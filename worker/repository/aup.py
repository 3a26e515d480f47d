"""Repository of acceptances and policies, one per process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from worker.aws.access import CallObserver, Probe
from worker.domain.acceptance import Acceptance
from worker.domain.origin import Origin
from worker.domain.policy import Policy, PolicyText
from worker.domain.text_content import TextContent
from worker.repository.acceptances import Acceptances, RecordResult, ScanKey, ScanPage, TableSize
from worker.repository.dynamodb import DynamoDBRepository
from worker.repository.policies import Policies
from worker.repository.tables import TableCalls, TableTracing
from worker.runtime.clock import utc_now
from worker.settings import AWSSettings

if TYPE_CHECKING:
    import aioboto3


class AUPRepository(DynamoDBRepository):
    """Repository of acceptances and policies.

    One per process: `AUPRepository(aws_settings) is AUPRepository(aws_settings)`. Safe for any
    number of concurrent tasks of one event loop; their writes are sent in shared calls.

    Args:
        aws_settings: Tables, endpoint, concurrency and caching.
        session: Session to use instead of one from the environment.
        now: Returns the current time, timezone-aware.
    """

    def __init__(
        self,
        aws_settings: AWSSettings,
        session: aioboto3.Session | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        super().__init__(aws_settings, session)
        self.table_name = aws_settings.table_name
        self.user_table_name = aws_settings.user_table_name
        self.tables = TableCalls(self)
        self._policies = Policies(self.tables, now)
        self._acceptances = Acceptances(self.tables, now)

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        super()._bind(loop)
        self._policies.bind()
        self._acceptances.bind(loop)

    @property
    def write_concurrency(self) -> int:
        """Current limit of concurrent writes; lower while the table throttles."""
        return self._acceptances.write_concurrency

    def trace(self, tracing: TableTracing) -> None:
        """Trace every call to the tables from now on.

        Not an argument of the constructor: the calls that check the set-up at start belong to no
        message and stay untraced, and equal settings must return the one instance.
        """
        self.tables.trace(tracing)
        self._acceptances.trace(tracing)

    def observe(self, observer: CallObserver) -> None:
        """Report the results of every read and write from now on to an observer.

        Not an argument of the constructor: the observer needs `probes` first.
        """
        self.tables.set_observer(observer)

    # `record` and `policy` return the coroutine itself: each message calls them, and an `async def`
    # here would add a coroutine to every call.

    def record(
        self, acceptance: Acceptance, text: PolicyText, origin: Origin | None = None
    ) -> Coroutine[Any, Any, RecordResult]:
        """Insert an acceptance unless its key exists; the first record wins.

        Args:
            acceptance: Acceptance as the application stated it.
            text: The published text that was accepted; see `worker.domain.admission.admit`.
            origin: Origin of the message; defaults to an acceptance received now, without a
                message.

        Returns:
            `RECORDED`: this call recorded it. `DUPLICATE`: the user's acceptance of this version
            was recorded before, by any program. `CONFLICT`: it was recorded before under the same
            `event_id` with other content.

        Raises:
            AWSThrottledError: The table still throttled the last attempt.
            AWSRejectedError: DynamoDB will never accept this item.
            AWSError: The table cannot be reached, found or written.
        """
        return self._acceptances.record(acceptance, text, origin)

    def policy(
        self, policy_id: str, version: str, *, recheck: bool = False
    ) -> Coroutine[Any, Any, Policy | None]:
        """Return a published version, from the cache if possible.

        Args:
            policy_id: Policy id.
            version: Policy version.
            recheck: Whether to read the version again if it is cached for longer than
                `AUP_POLICY_ABSENCE_SECONDS`, because a text may have been added.

        Raises:
            AWSError: The version is not cached, or must be rechecked, and cannot be read now.
        """
        return self._policies.get(policy_id, version, recheck=recheck)

    def known_policy(self, policy_id: str, version: str) -> Policy | None:
        """Return a published version if it is cached and has not expired, without awaiting.

        Args:
            policy_id: Policy id.
            version: Policy version.

        Returns:
            The version. None if it has to be read, with `policy`.
        """
        # It reads nothing, so only the write that follows checks the owner.
        return None if self._loop is None else self._policies.known(policy_id, version)

    async def policies(self, policy_id: str | None = None) -> list[Policy]:
        """Return the published versions of one policy or of all, without the cache.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        return await self._policies.published(policy_id)

    async def publish_policy(self, policy: Policy, content: TextContent | None = None) -> Policy:
        """Publish a version; publishing the same text again changes nothing.

        Args:
            policy: The version, with the hash of its default text.
            content: The default text; None if only its hash is to be stored.

        Returns:
            The version as the table holds it.

        Raises:
            PolicyConflictError: The version is published with a different text, title or start.
            UsageError: The text is too large to be stored.
            AWSError: The table cannot be reached, found or written.
        """
        return await self._policies.publish(policy, content)

    async def publish_text(
        self, policy_id: str, version: str, text: PolicyText, content: TextContent | None = None
    ) -> Policy:
        """Add a text in another language to a version; adding it again changes nothing.

        Args:
            policy_id: Policy id.
            version: A published version.
            text: Language and hash of the text.
            content: The text; None if only its hash is to be stored.

        Returns:
            The version with its texts.

        Raises:
            PolicyNotFoundError: The version is not published.
            PolicyConflictError: The version has another text in this language.
            UsageError: The text is too large to be stored.
            AWSError: The table cannot be reached, found or written.
        """
        return await self._policies.publish_text(policy_id, version, text, content)

    async def policy_text(self, sha256: str) -> TextContent | None:
        """Return the text with a hash in hexadecimal, None if only its hash was published.

        Raises:
            AlteredTextError: The stored text does not have this hash.
            AWSError: The table cannot be reached, found or read.
        """
        return await self._policies.content(sha256)

    async def retire_policy(
        self, policy_id: str, version: str, *, retired_at: datetime | None = None
    ) -> Policy:
        """End the time in which users are asked to accept a version; the first end stays.

        Args:
            policy_id: Policy id.
            version: Policy version.
            retired_at: End, timezone-aware; defaults to the current time.

        Returns:
            The version with its end, which an earlier call may have set.

        Raises:
            PolicyNotFoundError: The version was never published.
            AWSError: The table cannot be reached, or the update is not permitted.
        """
        return await self._policies.retire(policy_id, version, retired_at=retired_at)

    async def has_accepted(self, user_id: str, policy_id: str) -> bool:
        """Return whether a user has accepted the version of a policy that is in force now.

        Raises:
            PolicyNotFoundError: No version is in force.
            AWSError: The tables cannot be reached, found or read.
        """
        current = await self._policies.in_force(policy_id)
        return await self._acceptances.exists(user_id, policy_id, current.version)

    def acceptances(
        self, user_id: str, policy_id: str | None = None
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the acceptances of a user, page by page, ordered by policy and version.

        Args:
            user_id: User id.
            policy_id: Yield only acceptances of this policy.

        Yields:
            Items as stored; their format is in `worker.domain.evidence`.

        Raises:
            AWSError: The table cannot be reached, found or read.
        """
        return self._acceptances.of_user(user_id, policy_id)

    async def erase(self, item: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
        """Remove fields and their salts from a record, unless it has changed since it was read.

        Args:
            item: Record as it was read.
            fields: Names of erasable fields.

        Returns:
            The record as it is stored now.

        Raises:
            AWSRejectedError: The record is gone, is another one, or is not one of this program.
            AWSError: The table cannot be reached, or the update is not permitted.
        """
        return await self._acceptances.erase(item, fields)

    async def user_table_size(self) -> TableSize:
        """Return the approximate size of the table of acceptances.

        DynamoDB updates it about every six hours (DynamoDB API reference, TableDescription).

        Raises:
            AWSError: The table cannot be reached, or DescribeTable is not permitted.
        """
        return await self._acceptances.table_size()

    async def scan_acceptances(
        self, policy_version: str, *, segment: int, segments: int, items: int, after: ScanKey | None
    ) -> ScanPage:
        """Read one page of one segment of the table of acceptances, eventually consistent.

        Args:
            policy_version: Acceptances to return, as `{policy_id}#{version}`; others are read and
                billed, and left out.
            segment: Segment to read, from 0.
            segments: Number of segments.
            items: Maximum number of items to read.
            after: `next_key` of the previous page; None for the first page.

        Raises:
            AWSThrottledError: The table has no read capacity left now.
            AWSError: The table cannot be reached, or Scan is not permitted.
        """
        return await self._acceptances.scan(
            policy_version, segment=segment, segments=segments, items=items, after=after
        )

    def probes(self) -> list[Probe]:
        """Return reads of keys that do not exist, and a write that cannot succeed.

        A read that is rejected means that the table has other keys.
        """
        return [*self._policies.probes(), *self._acceptances.probes()]

    async def aclose(self) -> None:
        """Cancel writes and close the resource; callers get RepositoryClosedError."""
        if self._loop is asyncio.get_running_loop():
            await self._acceptances.aclose(self._closed_error())
        await super().aclose()
