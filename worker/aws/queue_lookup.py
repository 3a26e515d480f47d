"""Clients for queues, and lookup of queues by URL or by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aioboto3

from worker.aws.calls import calling
from worker.aws.client import (
    SDK_ATTEMPTS,
    SDK_POLL_ATTEMPTS,
    client_config,
    new_session,
    opened,
)
from worker.aws.fast_path.caller import open_caller
from worker.aws.sdk_errors import translating
from worker.aws.sqs import Queue
from worker.aws.sqs_responses import string_member
from worker.errors import AWSNotFoundError
from worker.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

_BATCHES: Final = ("DeleteMessageBatch", "ChangeMessageVisibilityBatch", "SendMessageBatch")


@asynccontextmanager
async def open_queues(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[tuple[Queue, Queue]]:
    """Open the queue of acceptances and the dead-letter queue.

    Long polls and all other calls have separate connection pools.

    Args:
        settings: Settings with the URLs or names of the queues.
        calls: Counter of calls by operation.
        events: Counter of events, such as malformed messages.
        session: Session of the SDK; by default a new one.

    Yields:
        The source queue and the dead-letter queue.

    Raises:
        AWSError: A queue does not exist, or its lookup failed.
    """
    async with open_finder(settings, calls=calls, events=events, session=session) as find:
        yield await find(settings.queue), await find(settings.dead_letter_queue)


@asynccontextmanager
async def open_finder(
    settings: Settings,
    *,
    calls: Counter[str] | None = None,
    events: Counter[str] | None = None,
    session: aioboto3.Session | None = None,
) -> AsyncIterator[Callable[[str], Awaitable[Queue]]]:
    """Open the clients of queues and yield a function that finds a queue by URL or by name.

    Args:
        settings: Settings with concurrency, deadlines, region and endpoint.
        calls: Counter of calls by operation.
        events: Counter of events, such as malformed messages.
        session: Session of the SDK; by default a new one.

    Raises:
        AWSError: Credentials cannot be retrieved.
    """
    session = session or new_session()
    timeout = settings.aws.call_timeout_seconds
    location: dict[str, Any] = {
        "region_name": settings.aws.region,
        "endpoint_url": settings.aws.sqs_endpoint_url,
    }
    polls = client_config(
        pool=settings.poll_concurrency,
        read_timeout_seconds=settings.wait_seconds + timeout,
        attempts=SDK_POLL_ATTEMPTS,
    )
    others = client_config(
        pool=4 * settings.settle_concurrency, read_timeout_seconds=timeout, attempts=SDK_ATTEMPTS
    )
    async with (
        opened(session.client("sqs", config=polls, **location), "SQS") as poll_client,
        opened(session.client("sqs", config=others, **location), "SQS") as client,
    ):
        fast = settings.aws.fast_calls
        with translating("SQS"):
            caller = await open_caller(client, _BATCHES, fast=fast)
            poll_caller = await open_caller(poll_client, ("ReceiveMessage",), fast=fast)

        async def find(name: str) -> Queue:
            return Queue(
                client,
                await _url(client, name, timeout),
                caller=caller,
                poll_caller=poll_caller,
                call_timeout_seconds=timeout,
                calls=calls,
                events=events,
            )

        yield find


async def _url(client: SQSClient, name: str, timeout_seconds: float) -> str:
    if name.startswith(("http://", "https://")):
        return name
    try:
        async with calling("GetQueueUrl", timeout_seconds):
            response = await client.get_queue_url(QueueName=name)
            return string_member(response, "QueueUrl")
    except AWSNotFoundError:
        raise AWSNotFoundError(
            f"queue {name!r} does not exist: create it with `aup-worker init`, or set AUP_QUEUE "
            "and AUP_DEAD_LETTER_QUEUE"
        ) from None
