"""Simpler implementations of the worker's job, to measure the worker against.

`python -m tests.bench.variants.implementations A|B|C`, configured by the environment, receives ten
messages at a time until it is terminated, all of them in flight. Each implementation reads a
message, builds the same item as the worker and writes it on the same condition. None of them checks
policies or conflicts, extends leases or retries, so their cost is a lower bound.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import aioboto3
from botocore.exceptions import ClientError

from tests.unit.fakes import TEXT
from worker.domain.dead_letter import body_sha256
from worker.domain.envelope import decode
from worker.domain.evidence import build_item
from worker.domain.origin import Origin
from worker.settings import load

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

VARIANTS: Final = MappingProxyType(
    {
        "A": "new session and clients for each message",
        "B": "a resource opened in every call",
        "C": "shared clients, a call for each step",
    }
)
_NOT_RECORDED: Final = "attribute_not_exists(user_id)"
_CLOCK_SKEW_SECONDS: Final = 300.0

Item = dict[str, Any]
# Writes an item, then deletes the message with that receipt handle.
Handler = Callable[[Item, str], Awaitable[None]]
# Called for each settled message with the seconds since its receipt.
OnSettled = Callable[[float], None]


def parse_item(body: str) -> Item:
    """Decode a message and build the item that records it."""
    now = datetime.now(UTC)
    acceptance = decode(body, now=now, clock_skew_seconds=_CLOCK_SKEW_SECONDS)
    origin = Origin.at(now, "00000000-0000-4000-8000-000000000000", body_sha256(body))
    return build_item(acceptance, TEXT, origin, recorded_at=now)


async def _ignore_existing(writing: Awaitable[object]) -> None:
    """Await a write; ignore an item that exists because SQS delivered the message twice."""
    try:
        await writing
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
            raise


class NewSession:
    """Variant A: a session and its clients for each message."""

    def __init__(self, table_name: str, queue_url: str) -> None:
        self._table_name = table_name
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        session = aioboto3.Session()
        async with session.resource("dynamodb") as dynamodb, session.client("sqs") as sqs:
            table = await dynamodb.Table(self._table_name)
            await _ignore_existing(table.put_item(Item=item, ConditionExpression=_NOT_RECORDED))
            await sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class PlainSingleton:
    """Variant B: one session, but a resource with its own pool opened in every call."""

    def __init__(
        self, session: aioboto3.Session, sqs: SQSClient, table_name: str, queue_url: str
    ) -> None:
        self._session = session
        self._sqs = sqs
        self._table_name = table_name
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        async with self._session.resource("dynamodb") as dynamodb:
            table = await dynamodb.Table(self._table_name)
            await _ignore_existing(table.put_item(Item=item, ConditionExpression=_NOT_RECORDED))
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class SharedClient:
    """Variant C: shared clients and one call for each step, without the resource layer."""

    def __init__(self, dynamodb: Any, sqs: SQSClient, table_name: str, queue_url: str) -> None:
        self._dynamodb = dynamodb
        self._sqs = sqs
        self._table_name = table_name
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        putting = self._dynamodb.put_item(
            TableName=self._table_name,
            Item={
                name: {"B": value} if isinstance(value, bytes) else {"S": value}
                for name, value in item.items()
            },
            ConditionExpression=_NOT_RECORDED,
        )
        await _ignore_existing(putting)
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


async def receive_forever(variant: str, on_settled: OnSettled | None = None) -> None:
    """Receive and process messages without end.

    Args:
        variant: Letter of one of `VARIANTS`.
        on_settled: Called for each message when it is deleted.
    """
    settings = load()
    table_name = settings.aws.user_table_name
    session = aioboto3.Session()
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(session.client("sqs"))
        queue_url = (await sqs.get_queue_url(QueueName=settings.queue))["QueueUrl"]
        handle: Handler
        if variant == "A":
            handle = NewSession(table_name, queue_url)
        elif variant == "B":
            handle = PlainSingleton(session, sqs, table_name, queue_url)
        else:
            dynamodb = await stack.enter_async_context(session.client("dynamodb"))
            handle = SharedClient(dynamodb, sqs, table_name, queue_url)
        while True:
            await _receive_batch(sqs, queue_url, handle, on_settled)


async def _receive_batch(
    sqs: SQSClient, queue_url: str, handle: Handler, on_settled: OnSettled | None
) -> None:
    response = await sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=20,
        MessageSystemAttributeNames=["SentTimestamp"],
    )
    received_at = time.monotonic()

    async def handle_one(body: str, receipt_handle: str) -> None:
        await handle(parse_item(body), receipt_handle)
        if on_settled is not None:
            on_settled(time.monotonic() - received_at)

    async with asyncio.TaskGroup() as handling:
        for message in response.get("Messages", []):
            handling.create_task(handle_one(message["Body"], message["ReceiptHandle"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Process acceptances with a simpler variant.")
    parser.add_argument("variant", choices=[*VARIANTS])
    asyncio.run(receive_forever(parser.parse_args().variant))
