"""Queues and tables of a soak, through a client that shares no code with the worker."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.soak.audit import Letter
from tests.soak.messages import POLICY, SHA256, VERSIONS, Sent

NUMBER: Final = "soak-number"
_DAY_SECONDS: Final = 86_400
# Receives are burnt by kills, and no message may die of that.
MAX_RECEIVES: Final = 1000
_NAMES: Final = {
    "AUP_QUEUE": "soak-acceptances",
    "AUP_DEAD_LETTER_QUEUE": "soak-dead",
    "AUP_TABLE_NAME": "soak-policies",
    "AUP_USER_TABLE_NAME": "soak-acceptances",
}


class SoakError(Exception):
    """The soak itself could not be carried out."""


def until(reached: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition under a deadline."""
    deadline = time.monotonic() + seconds
    while not reached():
        if time.monotonic() > deadline:
            raise SoakError(f"not in {seconds:g} s: {what}")
        time.sleep(0.2)


class SoakPlace:
    """Two queues and two tables.

    Args:
        sqs_url: SQS itself, past its proxy.
        dynamodb_url: DynamoDB itself, past its proxy.
    """

    def __init__(self, sqs_url: str, dynamodb_url: str) -> None:
        session = boto3.Session(
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - emulators take any
            region_name="us-east-1",
        )
        config = Config(connect_timeout=5, read_timeout=20, retries={"total_max_attempts": 1})
        self._sqs: Any = session.client("sqs", endpoint_url=sqs_url, config=config)
        self._dynamodb: Any = session.resource(
            "dynamodb", endpoint_url=dynamodb_url, config=config
        ).meta.client
        self._queue = self._dead = ""
        self.names = dict(_NAMES)

    def make(self) -> None:
        """Make queues and tables, and publish the policies."""
        until(self.is_up, 60, "DynamoDB answers")
        self._dead = self._make_queue("AUP_DEAD_LETTER_QUEUE", 14)
        arn = self._sqs.get_queue_attributes(QueueUrl=self._dead, AttributeNames=["QueueArn"])
        redrive = {
            "deadLetterTargetArn": arn["Attributes"]["QueueArn"],
            "maxReceiveCount": MAX_RECEIVES,
        }
        self._queue = self._make_queue("AUP_QUEUE", 4, RedrivePolicy=json.dumps(redrive))
        self._make_table("AUP_TABLE_NAME", "policy_id", "version")
        self._make_table("AUP_USER_TABLE_NAME", "user_id", "policy_version")
        for version in VERSIONS:
            self._publish(version)

    def _make_queue(self, variable: str, days: int, **attributes: str) -> str:
        kept = {"MessageRetentionPeriod": str(days * _DAY_SECONDS), **attributes}
        answer = self._sqs.create_queue(QueueName=self.names[variable], Attributes=kept)
        return str(answer["QueueUrl"])

    def _make_table(self, variable: str, *key: str) -> None:
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
        """Say whether DynamoDB answers."""
        try:
            self._dynamodb.list_tables()
        except (BotoCoreError, ClientError):
            return False
        return True

    def send(self, messages: Sequence[Sent]) -> None:
        """Send up to ten messages, and fail unless every one is taken."""
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
        answer = self._sqs.send_message_batch(QueueUrl=self._queue, Entries=entries)
        if answer.get("Failed") or len(answer["Successful"]) != len(entries):
            raise SoakError(f"SQS did not take {answer}")

    def depth(self) -> int:
        """Count what is in the queue, visible or not."""
        kinds = ("", "NotVisible", "Delayed")
        names = [f"ApproximateNumberOfMessages{kind}" for kind in kinds]
        answer = self._sqs.get_queue_attributes(QueueUrl=self._queue, AttributeNames=names)
        return sum(int(answer["Attributes"].get(name, 0)) for name in names)

    def items(self) -> list[dict[str, Any]]:
        """Read the whole table of acceptances."""
        found: list[dict[str, Any]] = []
        request = {"TableName": self.names["AUP_USER_TABLE_NAME"], "ConsistentRead": True}
        while True:
            answer = self._dynamodb.scan(**request)
            found += answer["Items"]
            if "LastEvaluatedKey" not in answer:
                return found
            request["ExclusiveStartKey"] = answer["LastEvaluatedKey"]

    def letters(self) -> list[Letter]:
        """Take every dead letter."""
        found: list[Letter] = []
        while True:
            answer = self._sqs.receive_message(
                QueueUrl=self._dead,
                MaxNumberOfMessages=10,
                VisibilityTimeout=3600,
                MessageAttributeNames=["All"],
            )
            if not answer.get("Messages"):
                return found
            found += map(_letter, answer["Messages"])


def _letter(message: dict[str, Any]) -> Letter:
    attributes = message.get("MessageAttributes", {})
    number = attributes.get(NUMBER, {}).get("StringValue")
    note = attributes.get("aup.dead_letter", {}).get("StringValue")
    return Letter(
        int(number) if number else None,
        message["Body"],
        json.loads(note)["reason"] if note else None,
    )
