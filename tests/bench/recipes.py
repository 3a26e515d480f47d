"""The ways to keep acceptances that the worker is measured against.

`python -m tests.bench.recipes A|B|C`, configured by the environment, receives until it is ended:
ten messages at a time, all of them in flight. Each way reads and builds the same item as the worker
and writes it on the same condition; they know no policies, duplicates, leases or retries of their
own, so that what they cost is a lower bound.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import aioboto3

from worker.pipeline.decode import decode
from worker.repository.evidence import build_item

if TYPE_CHECKING:
    from types_aiobotocore_sqs import SQSClient

QUEUE: Final = "aup-acceptances"
TABLE: Final = "aup-acceptances"
_ABSENT: Final = "attribute_not_exists(user_id)"
_CLOCK_SKEW_SECONDS: Final = 300.0

Item = dict[str, Any]
# Writes an item, then deletes the message of that receipt handle.
Carry = Callable[[Item, str], Awaitable[None]]


def item_of(body: str) -> Item:
    """Read and check a message, and build the item that keeps it."""
    now = datetime.now(UTC)
    acceptance = decode(body, now=now, clock_skew_seconds=_CLOCK_SKEW_SECONDS)
    return build_item(acceptance, received_at=now, recorded_at=now)


class NewSession:
    """A: no singleton: a session and its clients for each message."""

    def __init__(self, queue_url: str) -> None:
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        session = aioboto3.Session()
        async with session.resource("dynamodb") as dynamodb, session.client("sqs") as sqs:
            table = await dynamodb.Table(TABLE)
            await table.put_item(Item=item, ConditionExpression=_ABSENT)
            await sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class PlainSingleton:
    """B: one object and one session, yet a resource, and so a pool, opened in every call."""

    def __init__(self, session: aioboto3.Session, sqs: SQSClient, queue_url: str) -> None:
        self._session = session
        self._sqs = sqs
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        async with self._session.resource("dynamodb") as dynamodb:
            table = await dynamodb.Table(TABLE)
            await table.put_item(Item=item, ConditionExpression=_ABSENT)
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


class SharedClient:
    """C: clients opened once, a call for each step; without the resource's layer."""

    def __init__(self, dynamodb: Any, sqs: SQSClient, queue_url: str) -> None:
        self._dynamodb = dynamodb
        self._sqs = sqs
        self._queue_url = queue_url

    async def __call__(self, item: Item, receipt_handle: str) -> None:
        """Write the item and delete the message."""
        await self._dynamodb.put_item(
            TableName=TABLE,
            Item={
                name: {"B": value} if isinstance(value, bytes) else {"S": value}
                for name, value in item.items()
            },
            ConditionExpression=_ABSENT,
        )
        await self._sqs.delete_message(QueueUrl=self._queue_url, ReceiptHandle=receipt_handle)


async def receive_on(recipe: str) -> None:
    """Receive and carry messages in a recipe's way, without end."""
    session = aioboto3.Session()
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(session.client("sqs"))
        queue_url = (await sqs.get_queue_url(QueueName=QUEUE))["QueueUrl"]
        carry: Carry
        if recipe == "A":
            carry = NewSession(queue_url)
        elif recipe == "B":
            carry = PlainSingleton(session, sqs, queue_url)
        else:
            dynamodb = await stack.enter_async_context(session.client("dynamodb"))
            carry = SharedClient(dynamodb, sqs, queue_url)
        while True:
            await _turn(sqs, queue_url, carry)


async def _turn(sqs: SQSClient, queue_url: str, carry: Carry) -> None:
    answer = await sqs.receive_message(
        QueueUrl=queue_url,
        MaxNumberOfMessages=10,
        WaitTimeSeconds=20,
        MessageSystemAttributeNames=["SentTimestamp"],
    )
    async with asyncio.TaskGroup() as carrying:
        for message in answer.get("Messages", []):
            step = carry(item_of(message["Body"]), message["ReceiptHandle"])
            carrying.create_task(_awaited(step))


async def _awaited(step: Awaitable[None]) -> None:
    await step


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Keep acceptances in one of the plain ways.")
    parser.add_argument("recipe", choices=["A", "B", "C"])
    asyncio.run(receive_on(parser.parse_args().recipe))
