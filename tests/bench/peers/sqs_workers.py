"""sqs-workers of Doist: a raw queue, whose processor puts each message."""

from __future__ import annotations

from typing import Any

import boto3
from sqs_workers import RawQueue, SQSEnv

from tests.bench.peers.acceptances import QUEUE
from tests.bench.peers.boto3_loop import put


def main() -> None:
    """Process messages without end."""
    dynamodb = boto3.client("dynamodb")
    queue = SQSEnv().queue(QUEUE, RawQueue)

    def record(message: Any) -> None:
        put(dynamodb, message.body)

    queue.raw_processor()(record)
    queue.process_queue()


if __name__ == "__main__":
    main()
