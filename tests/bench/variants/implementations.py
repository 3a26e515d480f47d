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

from worker.domain.envelope import decode
from worker.domain.evidence import build_item
from worker.settings import load

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

WAYS: Final = MappingProxyType(
    {
        "A": "new session and clients for each message",
        "B": "a resource opened in every call",
        "C": "shared clients, a call for each step",
    }
)
_ABSENT: Final = "attribute_not_exists(user_id)"
_CLOCK_SKEW_SECONDS: Final = 300.0

Item = dict[str, Any]
# Writes an item, then deletes the message of that receipt handle.
Carry = Callable[[Item, str], Awaitable[None]]
# Told of each settled message, and how many seconds after its receipt.
Settled = Callable[[float], None]


def item_of(body: str) -> Item:
    """Read and check a message, and build the item that keeps it."""
    now = datetime.now(UTC)
    acceptance = decode(body, now=now, clock_skew_seconds=_CLOCK_SKEW_SECONDS)
    return build_item(acceptance, received_at=now, recorded_at=now)


async def _unless_kept(writing: Awaitable[object]) -> None:
    """Write; what is kept already, because SQS handed it out twice, is as good."""
    try:
        await writing
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") != "ConditionalCheckFailedException":
            raise


class NewSession:
    """A: no singleton: a session and its clients for each message."""

    def __init__(self, table_name: str, queue_url: str) -> None:
        self._table_name = table_name
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        session = aioboto3.Session()
        async with session.resource("dynamodb") as dynamodb, session.client("sqs") as sqs:
            table = await dynamodb.Table(self._table_name)
            await _unless_kept(table.put_item(Item=item, ConditionExpression=_ABSENT))
            await sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class PlainSingleton:
    """B: one object and one session, yet a resource, and so a pool, opened in every call."""

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
            await _unless_kept(table.put_item(Item=item, ConditionExpression=_ABSENT))
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class SharedClient:
    """C: clients opened once, a call for each step; without the resource's layer."""

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
            ConditionExpression=_ABSENT,
        )
        await _unless_kept(putting)
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


async def receive_on(way: str, settled: Settled | None = None) -> None:
    """Receive and carry messages in one of `WAYS`, without end.

    Args:
        way: its letter.
        settled: told of each message when it is deleted.
    """
    settings = load()
    table_name = settings.aws.user_table_name
    session = aioboto3.Session()
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(session.client("sqs"))
        queue_url = (await sqs.get_queue_url(QueueName=settings.queue))["QueueUrl"]
        carry: Carry
        if way == "A":
            carry = NewSession(table_name, queue_url)
        elif way == "B":
            carry = PlainSingleton(session, sqs, table_name, queue_url)
        else:
            dynamodb = await stack.enter_async_context(session.client("dynamodb"))
            carry = SharedClient(dynamodb, sqs, table_name, queue_url)
        while True:
            await _turn(sqs, queue_url, carry, settled)


async def _turn(sqs: SQSClient, queue_url: str, carry: Carry, settled: Settled | None) -> None:
    answer = await sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=20,
        MessageSystemAttributeNames=["SentTimestamp"],
    )
    received_at = time.monotonic()

    async def carried(body: str, receipt_handle: str) -> None:
        await carry(item_of(body), receipt_handle)
        if settled is not None:
            settled(time.monotonic() - received_at)

    async with asyncio.TaskGroup() as carrying:
        for message in answer.get("Messages", []):
            carrying.create_task(carried(message["Body"], message["ReceiptHandle"]))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Keep acceptances in one of the plain ways.")
    parser.add_argument("way", choices=[*WAYS])
    asyncio.run(receive_on(parser.parse_args().way))
