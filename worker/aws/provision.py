"""Queues and tables made where they are missing, for development."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import aioboto3

from worker.aws.calls import calling
from worker.aws.client import new_session, opened
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import AWSNotFoundError, AWSRejectedError, UsageError
from worker.settings import Settings

_DAY_SECONDS: Final = 86_400
SOURCE_RETENTION_SECONDS: Final = 4 * _DAY_SECONDS
DEAD_LETTER_RETENTION_SECONDS: Final = 14 * _DAY_SECONDS


async def provision(
    settings: Settings, *, session: aioboto3.Session | None = None
) -> dict[str, bool]:
    """Make the queues and tables that the settings name, where they are missing.

    Returns:
        For each, by name, whether it was made.

    Raises:
        UsageError: a queue is named by URL, which says where it is but not what to make.
    """
    session = session or new_session()
    for queue in (settings.queue, settings.dead_letter_queue):
        if queue.startswith(("http://", "https://")):
            raise UsageError(f"init makes queues by name, and {queue} is a URL: set a name")
    made = await _queues(settings, session)
    return made | await _tables(settings, session)


async def _queues(settings: Settings, session: aioboto3.Session) -> dict[str, bool]:
    made = {}
    context = session.client(
        "sqs", region_name=settings.aws.region, endpoint_url=settings.aws.sqs_endpoint_url
    )
    async with opened(context, "SQS") as client:
        dead = settings.dead_letter_queue
        made[f"queue {dead}"] = await _queue(
            client,
            settings,
            dead,
            {
                "MessageRetentionPeriod": str(DEAD_LETTER_RETENTION_SECONDS),
                "MaximumMessageSize": str(MESSAGE_MAX_BYTES),
            },
        )
        async with calling("GetQueueUrl", settings.aws.call_timeout_seconds):
            url = (await client.get_queue_url(QueueName=dead))["QueueUrl"]
        async with calling("GetQueueAttributes", settings.aws.call_timeout_seconds):
            answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        # Two receives more than the worker's own attempts: it acts first, and says why.
        redrive = {
            "deadLetterTargetArn": answer["Attributes"]["QueueArn"],
            "maxReceiveCount": settings.max_attempts + 2,
        }
        made[f"queue {settings.queue}"] = await _queue(
            client,
            settings,
            settings.queue,
            {
                "MessageRetentionPeriod": str(SOURCE_RETENTION_SECONDS),
                "VisibilityTimeout": str(settings.visibility_timeout_seconds),
                "RedrivePolicy": json.dumps(redrive),
            },
        )
    return made


async def _queue(client: Any, settings: Settings, name: str, attributes: dict[str, str]) -> bool:
    try:
        async with calling("GetQueueUrl", settings.aws.call_timeout_seconds):
            await client.get_queue_url(QueueName=name)
    except AWSNotFoundError:
        async with calling("CreateQueue", settings.aws.call_timeout_seconds):
            await client.create_queue(QueueName=name, Attributes=attributes)
        return True
    return False


async def _tables(settings: Settings, session: aioboto3.Session) -> dict[str, bool]:
    aws = settings.aws
    made = {}
    context = session.client(
        "dynamodb", region_name=aws.region, endpoint_url=aws.dynamodb_endpoint_url
    )
    async with opened(context, "DynamoDB") as client:
        for name, key in (
            (aws.table_name, ("policy_id", "version")),
            (aws.user_table_name, ("user_id", "policy_version")),
        ):
            made[f"table {name}"] = await _table(client, settings, name, key)
    return made


async def _table(client: Any, settings: Settings, name: str, key: tuple[str, str]) -> bool:
    timeout = settings.aws.call_timeout_seconds
    try:
        async with calling("CreateTable", timeout):
            await client.create_table(
                TableName=name,
                KeySchema=[
                    {"AttributeName": key[0], "KeyType": "HASH"},
                    {"AttributeName": key[1], "KeyType": "RANGE"},
                ],
                AttributeDefinitions=[
                    {"AttributeName": attribute, "AttributeType": "S"} for attribute in key
                ],
                BillingMode="PAY_PER_REQUEST",
            )
    except AWSRejectedError as error:
        if "ResourceInUse" not in str(error):
            raise
        return False
    async with asyncio.timeout(120):
        while True:
            async with calling("DescribeTable", timeout):
                answer = await client.describe_table(TableName=name)
            if answer["Table"]["TableStatus"] == "ACTIVE":
                return True
            await asyncio.sleep(1)
