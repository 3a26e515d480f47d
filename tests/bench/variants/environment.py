"""Temporary queues and tables for the runs of a comparison."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from worker.aws.calls import calling
from worker.aws.client import new_session, open_client
from worker.aws.provision import provision
from worker.settings import Settings


@asynccontextmanager
async def temporary_resources(settings: Settings, name: str) -> AsyncIterator[Settings]:
    """Create queues and tables, and delete them at the end of the block.

    Args:
        settings: Settings for everything but the names.
        name: Prefix of each name.

    Yields:
        Settings with the names of the temporary resources.

    Raises:
        AWSError: The resources could not be created or deleted.
    """
    aws = settings.aws.model_copy(
        update={"table_name": f"{name}-policies", "user_table_name": f"{name}-acceptances"}
    )
    created = settings.model_copy(
        update={"aws": aws, "queue": f"{name}-source", "dead_letter_queue": f"{name}-dead"}
    )
    try:
        await provision(created)
        yield created
    finally:
        await _remove(created)


async def _remove(settings: Settings) -> None:
    aws, timeout = settings.aws, settings.aws.call_timeout_seconds
    session = new_session()
    async with open_client(session, "SQS", aws) as sqs:
        for queue in (settings.queue, settings.dead_letter_queue):
            async with calling("DeleteQueue", timeout, target=queue):
                url = (await sqs.get_queue_url(QueueName=queue))["QueueUrl"]
                await sqs.delete_queue(QueueUrl=url)
    async with open_client(session, "DynamoDB", aws) as dynamodb:
        for table in (aws.table_name, aws.user_table_name):
            async with calling("DeleteTable", timeout, target=table):
                await dynamodb.delete_table(TableName=table)
