"""Publication of acceptances by an application, validated like the worker validates them.

    from worker.producer import publish

    await publish(
        {
            "event_id": "0193b5a4-…", "user_id": "u-42", "policy_id": "acceptable-use",
            "version": "2026-01", "accepted_at": datetime.now(UTC), "content_sha256": "…",
        }
    )

`publish` opens connections for one call. An application that publishes continuously keeps one
publisher open, whose concurrent calls share batches and connections:

    async with open_publisher() as publisher:
        await publisher.publish(acceptance)
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from worker.aws.sqs import MessageQueue, open_finder
from worker.domain.acceptance import Acceptance
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.domain.message_group import MessageGroup
from worker.errors import (
    AUPError,
    AWSError,
    InvalidAcceptanceError,
    PublisherClosedError,
    SettingsError,
    UsageError,
)
from worker.operations.push import CONCURRENCY, outgoing, send_batch
from worker.runtime.batcher import Batcher
from worker.settings import Settings, load

__all__ = [
    "AUPError", "AWSError", "Acceptance", "InvalidAcceptanceError", "NotPublishedError",
    "Published", "Publisher", "PublisherClosedError", "SettingsError", "UsageError",
    "open_publisher", "publish",
]  # fmt: skip

_CLOSED: Final = (
    "the publisher is closed; what was not confirmed may have been sent: publish it again with the "
    "same event_id, which is recorded only once"
)


@dataclass(frozen=True, slots=True)
class Published:
    """Result of one acceptance.

    Attributes:
        event_id: Its event id.
        error: Why SQS did not take it, after all retries; None if SQS confirmed it.
    """

    event_id: str
    error: AWSError | None = None


class NotPublishedError(AUPError):
    """SQS did not take some acceptances; the others are in the queue.

    Publishing all of them again is safe: an `event_id` is recorded only once.

    Attributes:
        results: One result for each acceptance, in order.
    """

    def __init__(self, results: list[Published]) -> None:
        failed = [each for each in results if each.error is not None]
        super().__init__(
            f"{len(failed)} of {len(results)} acceptances not published, the first one for: "
            f"{failed[0].error}"
        )
        self.results = results


async def publish(
    *acceptances: Acceptance | Mapping[str, Any],
    queue: str | None = None,
    group: str | None = None,
    settings: Settings | None = None,
) -> list[Published]:
    """Publish acceptances: validate all of them, then send them in batches with retries.

    Args:
        acceptances: Acceptances, or mappings of their fields. `accepted_at` may be an aware
            datetime and `event_id` a UUID. A caller that repeats a failed call must pass the same
            `event_id`, so that the acceptance is recorded once.
        queue: Name or URL of the queue; by default AUP_QUEUE.
        group: A field of the acceptance, `extra.NAME` for an unknown field, or a value: the
            MessageGroupId, with which a fair queue keeps one tenant from delaying the others.
        settings: Settings; by default those of the environment.

    Returns:
        One result for each acceptance, in order. All of them are in the queue.

    Raises:
        InvalidAcceptanceError: At least one acceptance is invalid; nothing was sent.
        NotPublishedError: SQS did not take some of them; its `results` name these.
        SettingsError: Region, queue or another setting is missing or invalid.
        AWSError: The queue does not exist, or there are no credentials; nothing was sent.
        UsageError: The queue is a FIFO queue; nothing was sent.
    """
    async with open_publisher(queue=queue, group=group, settings=settings) as publisher:
        return await publisher.publish(*acceptances)


@asynccontextmanager
async def open_publisher(
    *, queue: str | None = None, group: str | None = None, settings: Settings | None = None
) -> AsyncIterator[Publisher]:
    """Open a publisher, whose concurrent calls share batches and connections.

    Args:
        queue: Name or URL of the queue; by default AUP_QUEUE.
        group: See `publish`.
        settings: Settings; by default those of the environment.

    Raises:
        SettingsError: Region, queue or another setting is missing or invalid.
        AWSError: The queue does not exist, or there are no credentials.
        UsageError: The queue is a FIFO queue.
    """
    parsed = None if group is None else _parse_group(group)
    if settings is None:
        settings = load(**({} if queue is None else {"queue": queue}))
    async with open_finder(settings) as find:
        found = await find(queue or settings.queue)
        await found.check_destination()
        publisher = Publisher(found, group=parsed, clock_skew_seconds=settings.clock_skew_seconds)
        try:
            yield publisher
        finally:
            await publisher.aclose()


def _parse_group(text: str) -> MessageGroup:
    try:
        return MessageGroup.parse(text)
    except ValueError as problem:
        raise SettingsError([f"group={text}: {problem}"]) from None


class Publisher:
    """Sends acceptances to a queue, in batches of concurrent calls. See `open_publisher`.

    Args:
        queue: Destination queue.
        group: Message group.
        clock_skew_seconds: How far `accepted_at` may be in the future.
    """

    def __init__(
        self,
        queue: MessageQueue,
        *,
        group: MessageGroup | None = None,
        clock_skew_seconds: float = 300.0,
    ) -> None:
        self._queue = queue
        self._group = group
        self._clock_skew_seconds = clock_skew_seconds
        self._batcher: Batcher[OutgoingMessage, None] = Batcher(
            self._send,
            max_entries=BATCH_MAX_ENTRIES,
            max_bytes=MESSAGE_MAX_BYTES,
            concurrency=CONCURRENCY,
            size=lambda message: message.size_bytes,
        )

    async def publish(self, *acceptances: Acceptance | Mapping[str, Any]) -> list[Published]:
        """Publish acceptances; see the function `publish`.

        Raises:
            InvalidAcceptanceError: At least one acceptance is invalid; nothing was sent.
            NotPublishedError: SQS did not take some of them.
            PublisherClosedError: The block of the publisher has ended.
        """
        ids, messages = self._validated(acceptances)
        futures = [self._batcher.submit(each) for each in messages]
        errors = await asyncio.gather(*futures, return_exceptions=True)
        results = [Published(event_id) for event_id in ids]
        for index, error in enumerate(errors):
            if isinstance(error, AWSError):
                results[index] = Published(ids[index], error)
            elif error is not None:
                raise error
        if any(errors):
            raise NotPublishedError(results)
        return results

    async def aclose(self) -> None:
        """Cancel what is not confirmed yet; later calls raise `PublisherClosedError`."""
        await self._batcher.aclose(PublisherClosedError(_CLOSED))

    async def _send(self, messages: Sequence[OutgoingMessage]) -> list[Exception | None]:
        return list(await send_batch(self._queue, messages))

    def _validated(
        self, acceptances: Sequence[Acceptance | Mapping[str, Any]]
    ) -> tuple[list[str], list[OutgoingMessage]]:
        ids: list[str] = []
        messages: list[OutgoingMessage] = []
        problems: list[str] = []
        for number, each in enumerate(acceptances):
            try:
                acceptance, message = outgoing(
                    _text(each),
                    max_bytes=self._queue.message_max_bytes,
                    clock_skew_seconds=self._clock_skew_seconds,
                    group=self._group,
                )
            except InvalidAcceptanceError as invalid:
                problems.append(f"acceptances[{number}]: {invalid}")
            else:
                ids.append(acceptance.event_id)
                messages.append(message)
        if problems:
            raise InvalidAcceptanceError(problems)
        return ids, [self._with_trace(each) for each in messages]

    def _with_trace(self, message: OutgoingMessage) -> OutgoingMessage:
        """Add the context of the application's current span, if the application traces."""
        if "opentelemetry.trace" not in sys.modules:
            return message
        from worker.observability.trace_context import inject_current  # noqa: PLC0415 - optional

        return inject_current(message, self._queue.message_max_bytes)


def _text(acceptance: Acceptance | Mapping[str, Any]) -> str:
    """Return the JSON text of an acceptance.

    Raises:
        InvalidAcceptanceError: A value has no representation in JSON.
    """
    try:
        if isinstance(acceptance, Acceptance):
            known = {
                name: value
                for name in Acceptance.model_fields
                if (value := getattr(acceptance, name)) is not None
            }
            text = json.dumps(known, ensure_ascii=False)
            # Unknown fields as their producer wrote them.
            return f"{text[:-1]},{acceptance.extra[1:]}" if acceptance.extra else text
        return json.dumps(dict(acceptance), ensure_ascii=False, allow_nan=False, default=_encode)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidAcceptanceError([f"not representable as JSON: {error}"]) from None


def _encode(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"a value is of type {type(value).__name__}")
