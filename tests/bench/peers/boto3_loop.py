"""A loop on boto3: receive ten messages, put each, delete them as a batch."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import boto3

from tests.bench.peers.acceptances import PER_POLL, QUEUE, WAIT_SECONDS, put_of


def main() -> None:
    """Process messages without end."""
    sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    while True:
        response = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=PER_POLL, WaitTimeSeconds=WAIT_SECONDS
        )
        messages = response.get("Messages", [])
        for message in messages:
            put(dynamodb, message["Body"])
        delete(sqs, url, messages)


def put(dynamodb: Any, body: str) -> None:
    """Write the item of a message, unless an earlier delivery did."""
    with suppress(dynamodb.exceptions.ConditionalCheckFailedException):
        dynamodb.put_item(**put_of(body))


def delete(sqs: Any, url: str, messages: list[dict[str, Any]]) -> None:
    """Delete up to ten messages; SQS delivers those that fail again."""
    if messages:
        entries = [
            {"Id": str(number), "ReceiptHandle": message["ReceiptHandle"]}
            for number, message in enumerate(messages)
        ]
        sqs.delete_message_batch(QueueUrl=url, Entries=entries)


if __name__ == "__main__":
    main()
