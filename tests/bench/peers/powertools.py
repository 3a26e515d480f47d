"""Powertools for AWS Lambda: its BatchProcessor in a polling loop, for a program without Lambda."""

from __future__ import annotations

from typing import Any

import boto3
from aws_lambda_powertools.utilities.batch import (
    BatchProcessor,
    EventType,
    process_partial_response,
)
from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from tests.bench.peers.acceptances import PER_POLL, QUEUE, WAIT_SECONDS
from tests.bench.peers.boto3_loop import delete, put


def main() -> None:
    """Process messages without end."""
    sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    processor = BatchProcessor(event_type=EventType.SQS)

    def handle(record: SQSRecord) -> None:
        put(dynamodb, record.body)

    while True:
        response = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=PER_POLL, WaitTimeSeconds=WAIT_SECONDS
        )
        messages = response.get("Messages", [])
        if messages:
            result = process_partial_response(
                event=event_of(messages), record_handler=handle, processor=processor
            )
            failed = {each["itemIdentifier"] for each in result["batchItemFailures"]}
            delete(sqs, url, [each for each in messages if each["MessageId"] not in failed])


def event_of(messages: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the event that Lambda would pass for these messages."""
    return {
        "Records": [
            {
                "messageId": message["MessageId"],
                "receiptHandle": message["ReceiptHandle"],
                "body": message["Body"],
                "attributes": message.get("Attributes", {}),
                "messageAttributes": message.get("MessageAttributes", {}),
                "md5OfBody": message["MD5OfBody"],
                "eventSource": "aws:sqs",
                "eventSourceARN": f"arn:aws:sqs:us-east-1:000000000000:{QUEUE}",
                "awsRegion": "us-east-1",
            }
            for message in messages
        ]
    }


if __name__ == "__main__":
    main()
