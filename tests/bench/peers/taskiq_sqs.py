"""taskiq-aio-sqs: a task puts each message; a formatter reads messages that taskiq did not send."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import suppress
from typing import Any

from aiobotocore.session import get_session
from taskiq import BrokerMessage, TaskiqMessage
from taskiq.abc.formatter import TaskiqFormatter
from taskiq.api import run_receiver_task
from taskiq_aio_sqs import SQSBroker

from tests.bench.peers.acceptances import PER_POLL, QUEUE, put_of

_TASK = "record"


class Formatter(TaskiqFormatter):  # type: ignore[misc] # taskiq is not installed for mypy
    """Reads the body of a message as the only argument of the task."""

    def dumps(self, message: TaskiqMessage) -> BrokerMessage:
        """Raise, because this program sends no message."""
        raise NotImplementedError

    def loads(self, message: bytes) -> TaskiqMessage:
        """Return a call of the task."""
        return TaskiqMessage(
            task_id=uuid.uuid4().hex,
            task_name=_TASK,
            labels={},
            args=[message.decode()],
            kwargs={},
        )


async def main() -> None:
    """Process messages until the process is terminated."""
    endpoint = os.environ["AWS_ENDPOINT_URL"]
    broker = SQSBroker(
        QUEUE,
        endpoint_url=endpoint,
        region_name=os.environ["AWS_REGION"],
        max_number_of_messages=PER_POLL,
        wait_time_seconds=PER_POLL,
    ).with_formatter(Formatter())
    async with get_session().create_client("dynamodb") as dynamodb:
        client: Any = dynamodb

        async def record(body: str) -> None:
            with suppress(client.exceptions.ConditionalCheckFailedException):
                await client.put_item(**put_of(body))

        broker.register_task(record, task_name=_TASK)
        await run_receiver_task(broker, run_startup=True)


if __name__ == "__main__":
    asyncio.run(main())
