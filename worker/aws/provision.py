"""Creation of missing queues and tables, for development."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, Final

import aioboto3

from worker.aws.calls import calling
from worker.aws.client import client_config, new_session, open_client
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import AWSNotFoundError, AWSRejectedError, UsageError
from worker.settings import AWSSettings, Settings

_DAY_SECONDS: Final = 86_400
_SOURCE_RETENTION_SECONDS: Final = 4 * _DAY_SECONDS
_DEAD_LETTER_RETENTION_SECONDS: Final = 14 * _DAY_SECONDS


async def provision(
    settings: Settings,
    *,
    session: aioboto3.Session | None = None,
    on_response: Callable[[], None] = lambda: None,
) -> dict[str, bool]:
    """Create the queues and tables of the settings that do not exist.

    Args:
        settings: Settings with the names of queues and tables.
        session: Session of the SDK; by default a new one.
        on_response: Called when SQS has responded for the first time.

    Returns:
        Whether each was created, by kind and name, such as `queue aup-acceptances`.

    Raises:
        UsageError: A queue is set by URL; only names can be created.
        AWSUnavailableError: SQS or DynamoDB does not respond; there are no retries.
    """
    session = session or new_session()
    for queue in (settings.queue, settings.dead_letter_queue):
        if queue.startswith(("http://", "https://")):
            raise UsageError(f"init creates queues by name: {queue} is a URL; set a name instead")
    queues = await _queues(settings, session, on_response)
    return queues | await _tables(settings, session)


def _config(aws: AWSSettings) -> Any:
    # A server that is not there is reported at once: the command can be run again.
    return client_config(pool=1, read_timeout_seconds=aws.call_timeout_seconds, attempts=1)


async def _queues(
    settings: Settings, session: aioboto3.Session, on_response: Callable[[], None]
) -> dict[str, bool]:
    aws = settings.aws
    async with open_client(session, "SQS", aws, _config(aws)) as client:
        attributes = {
            "MessageRetentionPeriod": str(_DEAD_LETTER_RETENTION_SECONDS),
            "MaximumMessageSize": str(MESSAGE_MAX_BYTES),
        }
        name = settings.dead_letter_queue
        url, dead_letter_queue_created = await _queue(client, settings, name, attributes)
        on_response()
        async with calling("GetQueueAttributes", aws.call_timeout_seconds):
            response = await client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
        # Two receives more than the worker's own attempts: it dead-letters first, with a reason.
        redrive = {
            "deadLetterTargetArn": response["Attributes"]["QueueArn"],
            "maxReceiveCount": settings.max_attempts + 2,
        }
        attributes = {
            "MessageRetentionPeriod": str(_SOURCE_RETENTION_SECONDS),
            "VisibilityTimeout": str(settings.visibility_timeout_seconds),
            "RedrivePolicy": json.dumps(redrive),
        }
        _, queue_created = await _queue(client, settings, settings.queue, attributes)
    return {f"queue {name}": dead_letter_queue_created, f"queue {settings.queue}": queue_created}


async def _queue(
    client: Any, settings: Settings, name: str, attributes: dict[str, str]
) -> tuple[str, bool]:
    """Return the URL of a queue, and whether it had to be created."""
    timeout = settings.aws.call_timeout_seconds
    try:
        async with calling("GetQueueUrl", timeout):
            return (await client.get_queue_url(QueueName=name))["QueueUrl"], False
    except AWSNotFoundError:
        async with calling("CreateQueue", timeout):
            response = await client.create_queue(QueueName=name, Attributes=attributes)
            return response["QueueUrl"], True


async def _tables(settings: Settings, session: aioboto3.Session) -> dict[str, bool]:
    aws = settings.aws
    tables = (
        (aws.table_name, ("policy_id", "version")),
        (aws.user_table_name, ("user_id", "policy_version")),
    )
    async with open_client(session, "DynamoDB", aws, _config(aws)) as client:
        return {f"table {name}": await _table(client, settings, name, key) for name, key in tables}


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
                response = await client.describe_table(TableName=name)
            if response["Table"]["TableStatus"] == "ACTIVE":
                return True
            await asyncio.sleep(1)
