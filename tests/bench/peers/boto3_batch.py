"""A loop on boto3 with a hand-written batch write: one BatchExecuteStatement for each receive."""

from __future__ import annotations

import boto3

from tests.bench.peers.acceptances import PER_POLL, QUEUE, WAIT_SECONDS, statement_of, written
from tests.bench.peers.boto3_loop import delete


def main() -> None:
    """Process messages without end."""
    sqs, dynamodb = boto3.client("sqs"), boto3.client("dynamodb")
    url = sqs.get_queue_url(QueueName=QUEUE)["QueueUrl"]
    while True:
        response = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=PER_POLL, WaitTimeSeconds=WAIT_SECONDS
        )
        messages = response.get("Messages", [])
        if messages:
            statements = [statement_of(message["Body"]) for message in messages]
            result = dynamodb.batch_execute_statement(Statements=statements)
            good = written(result["Responses"])
            delete(
                sqs,
                url,
                [each for each, is_written in zip(messages, good, strict=True) if is_written],
            )


if __name__ == "__main__":
    main()
