"""Queues and tables of a soak test, with a client that shares no code with the worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.soak.audit import DeadLetter
from tests.soak.messages import POLICY, SHA256, VERSIONS, SentMessage

NUMBER: Final = "soak-number"
_DAY_SECONDS: Final = 86_400
# Kills use up receives, which must not dead-letter messages.
MAX_RECEIVES: Final = 1000
_NAMES: Final = {
    "AUP_QUEUE": "soak-acceptances",
    "AUP_DEAD_LETTER_QUEUE": "soak-dead",
    "AUP_TABLE_NAME": "soak-policies",
    "AUP_USER_TABLE_NAME": "soak-acceptances",
}


class SoakError(Exception):
    """The soak test itself failed."""


def until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition under a deadline."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise SoakError(f"not in {seconds:g} s: {what}")
        time.sleep(0.2)


class SoakEnvironment:
    """Two queues and two tables.

    Args:
        sqs_url: URL of SQS without the proxy.
        dynamodb_url: URL of DynamoDB without the proxy.
    """

    def __init__(self, sqs_url: str, dynamodb_url: str) -> None:
        session = boto3.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - emulators accept any
            region_name="us-east-1",
        )
        config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
        self._sqs: Any = session.client("sqs", endpoint_url=sqs_url, config=config)
        self._dynamodb: Any = session.resource(
            "dynamodb", endpoint_url=dynamodb_url, config=config
        ).meta.client
        self._queue = self._dead_letters = ""
        self.names = dict(_NAMES)

    def create(self) -> None:
        """Create queues and tables, and publish the policies."""
        until(self.is_up, 60, "DynamoDB responds")
        self._dead_letters = self._create_queue("AUP_DEAD_LETTER_QUEUE", 14)
        arn = self._sqs.get_queue_attributes(
            QueueUrl=self._dead_letters, AttributeNames=["QueueArn"]
        )
        redrive = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": MAX_RECEIVES,
        }
        self._queue = self._create_queue("AUP_QUEUE", 4, RedrivePolicy=json.dumps(redrive))
        self._create_table("AUP_TABLE_NAME", "policy_id", "version")
        self._create_table("AUP_USER_TABLE_NAME", "user_id", "policy_version")
        for version in VERSIONS:
            self._publish(version)

    def _create_queue(self, variable: str, days: int, **attributes: str) -> str:
        items_by_key = {"MessageRetentionPeriod": str(days * _DAY_SECONDS), **attributes}
        response = self._sqs.create_queue(QueueName=self.names[variable], Attributes=items_by_key)
        return str(response["QueueUrl"])

    def _create_table(self, variable: str, *key: str) -> None:
        self._dynamodb.create_table(
            TableName=self.names[variable],
            KeySchema=[
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(key, ("HASH", "RANGE"), strict=True)
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in key],
            BillingMode="PAY_PER_REQUEST",
        )

    def _publish(self, version: str) -> None:
        moment = "2026-01-01T00:00:00.000Z"
        self._dynamodb.put_item(
            TableName=self.names["AUP_TABLE_NAME"],
            Item={
                "policy_id": POLICY,
                "version": version,
                "title": "Acceptable Use Policy",
                "content_sha256": SHA256,
                "published_at": moment,
                "effective_at": moment,
            },
        )

    def is_up(self) -> bool:
        """Return whether DynamoDB responds."""
        try:
            self._dynamodb.list_tables()
        except (BotoCoreError, ClientError):
            return False
        return True

    def send(self, messages: Sequence[SentMessage]) -> None:
        """Send up to ten messages; raise unless SQS accepts all of them."""
        entries = [
            {
                "Id": str(message.number),
                "MessageBody": message.body,
                "MessageAttributes": {
                    NUMBER: {"DataType": "Number", "StringValue": str(message.number)}
                },
            }
            for message in messages
        ]
        response = self._sqs.send_message_batch(QueueUrl=self._queue, Entries=entries)
        if response.get("Failed") or len(response["Successful"]) != len(entries):
            raise SoakError(f"SQS rejected messages: {response}")

    def depth(self) -> int:
        """Return the number of messages in the queue, visible or not."""
        kinds = ("", "NotVisible", "Delayed")
        names = [f"ApproximateNumberOfMessages{kind}" for kind in kinds]
        response = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)
        return sum(int(response["Attributes"].get(name, 0)) for name in names)

    def items(self) -> list[dict[str, Any]]:
        """Return all items of the table of acceptances."""
        found: list[dict[str, Any]] = []
        request = {"TableName": self.names["AUP_USER_TABLE_NAME"], "ConsistentRead": True}
        while True:
            response = self._dynamodb.scan(**request)
            found += response["Items"]
            if "LastEvaluatedKey" not in response:
                return found
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def dead_letters(self) -> list[DeadLetter]:
        """Receive all dead letters."""
        found: list[DeadLetter] = []
        while True:
            response = self._sqs.receive_message(
                QueueUrl=self._dead_letters,
                MaxNumberOfMessages=10,
                VisibilityTimeout=3600,
                MessageAttributeNames=["All"],
            )
            if not response.get("Messages"):
                return found
            found += map(_dead_letter, response["Messages"])


def _dead_letter(message: dict[str, Any]) -> DeadLetter:
    attributes = message.get("MessageAttributes", {})
    number = attributes.get(NUMBER, {}).get("StringValue")
    info = attributes.get("aup.dead_letter", {}).get("StringValue")
    return DeadLetter(
        int(number) if number else None,
        message["Body"],
        json.loads(info)["reason"] if info else None,
    )
