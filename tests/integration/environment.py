"""Queues and tables of one test, used through a client that shares no code with the worker."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal
from uuid import uuid4

import boto3  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
import pytest

from tests.private import PRIVATE
from worker.settings import AWSSettings, Settings

POLICY = "acceptable-use"
TEXTS = {"2026-01": "Be kind.", "2026-02": "Be kind. Send no spam."}
FORGOTTEN = "2026-03"
DEAD_LETTER = "aup.dead_letter"


@dataclass(frozen=True, slots=True)
class Servers:
    """Servers of queues and tables, and the API for writes."""

    sqs: str
    dynamodb: str
    write_api: Literal["batch", "put"]
    fast_calls: bool = True

    def __str__(self) -> str:
        servers = self.sqs if self.sqs == self.dynamodb else f"{self.sqs}+{self.dynamodb}"
        return servers if self.fast_calls else f"{servers}-stock"


MOTO = Servers("moto", "moto", "put")
REAL = [
    Servers("fauxqs", "dynamodb_local", "batch"),
    Servers("fauxqs", "dynamodb_local", "batch", fast_calls=False),
    Servers("ministack", "ministack", "batch"),
]
ENVIRONMENTS = [
    pytest.param(MOTO, id=str(MOTO)),
    *(pytest.param(each, id=str(each), marks=pytest.mark.servers) for each in REAL),
]


@dataclass(frozen=True, slots=True)
class Dead:
    """Dead letter as SQS returns it."""

    body: str
    attributes: dict[str, Any]

    @property
    def note(self) -> dict[str, Any]:
        """Return what the worker wrote."""
        note: dict[str, Any] = json.loads(self.attributes[DEAD_LETTER]["StringValue"])
        return note


def sha256(text: str) -> str:
    """Return the hash of a policy's text."""
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def _client(service: str, url: str) -> Any:
    session = boto3.Session(
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106 -- emulators take any
        region_name="us-east-1",
    )
    if service == "dynamodb":
        return session.resource(service, endpoint_url=url).meta.client
    return session.client(service, endpoint_url=url)


class Environment:
    """Two queues and two tables of one test."""

    def __init__(self, sqs_url: str, dynamodb_url: str, servers: Servers) -> None:
        unique = uuid4().hex[:12]
        self.servers = servers
        self.sqs = _client("sqs", sqs_url)
        self.dynamodb = _client("dynamodb", dynamodb_url)
        self.queue_url = self.dead_letter_url = ""
        self._aws: dict[str, Any] = {
            "region": "us-east-1",
            "sqs_endpoint_url": sqs_url,
            "dynamodb_endpoint_url": dynamodb_url,
            "table_name": f"policies-{unique}",
            "user_table_name": f"acceptances-{unique}",
            "write_api": servers.write_api,
            "fast_calls": servers.fast_calls,
        }
        self._values: dict[str, Any] = {
            "queue": f"source-{unique}",
            "dead_letter_queue": f"dead-{unique}",
            # Polls that wait for nothing end at once when a test does.
            "wait_seconds": 0,
            "backoff_base_seconds": 0.05,
            "backoff_cap_seconds": 0.2,
            "unknown_policy_seconds": 0.2,
            "drain_timeout_seconds": 10.0,
            "stop_timeout_seconds": 15.0,
            "summary_seconds": 600.0,
        }
        if servers.sqs == "moto":
            # It is not atomic: two polls may get one message, and two conditional puts both win.
            self._values["poll_concurrency"] = 1
            self._aws["write_concurrency"] = 1

    def settings(self, aws: dict[str, Any] | None = None, **changes: Any) -> Settings:
        """Return settings for these queues and tables."""
        return Settings(aws=AWSSettings(**(self._aws | (aws or {}))), **(self._values | changes))

    @property
    def policies_name(self) -> str:
        """The table of policies."""
        name: str = self._aws["table_name"]
        return name

    @property
    def acceptances_name(self) -> str:
        """The table of acceptances."""
        name: str = self._aws["user_table_name"]
        return name

    def create(self) -> None:
        """Create queues and tables, and publish the policies."""
        settings = self.settings()
        self.dead_letter_url = self.create_queue(settings.dead_letter_queue)
        self.queue_url = self.create_queue(settings.queue)
        self.create_table(self.policies_name, "policy_id", "version")
        self.create_table(self.acceptances_name, "user_id", "policy_version")
        for version in TEXTS:
            self.publish(version)

    def create_queue(self, name: str, **attributes: str) -> str:
        """Create a queue and return its URL."""
        url: str = self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        return url

    def create_table(self, name: str, *key: str) -> None:
        """Create a table with this key."""
        self.dynamodb.create_table(
            TableName=name,
            KeySchema=[
                {"AttributeName": attribute, "KeyType": kind}
                for attribute, kind in zip(key, ("HASH", "RANGE"), strict=True)
            ],
            AttributeDefinitions=[
                {"AttributeName": attribute, "AttributeType": "S"} for attribute in key
            ],
            BillingMode="PAY_PER_REQUEST",
        )

    def publish(self, version: str) -> None:
        """Publish a version without the worker's code."""
        moment = "2026-01-01T00:00:00.000Z"
        self.dynamodb.put_item(
            TableName=self.policies_name,
            Item={
                "policy_id": POLICY,
                "version": version,
                "title": "Acceptable Use Policy",
                "content_sha256": sha256(TEXTS.get(version, version)),
                "published_at": moment,
                "effective_at": moment,
            },
        )

    async def send(self, bodies: list[str], attributes: dict[str, Any] | None = None) -> None:
        """Send messages in batches of ten."""
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(index), "MessageBody": body, "MessageAttributes": attributes or {}}
                for index, body in enumerate(bodies[start : start + 10])
            ]
            response = await asyncio.to_thread(
                self.sqs.send_message_batch, QueueUrl=self.queue_url, Entries=entries
            )
            assert not response.get("Failed")

    async def recorded(self) -> list[dict[str, Any]]:
        """Return all recorded acceptances."""
        found: list[dict[str, Any]] = []
        request: dict[str, Any] = {"TableName": self.acceptances_name, "ConsistentRead": True}
        while True:
            response = await asyncio.to_thread(self.dynamodb.scan, **request)
            found += response["Items"]
            if "LastEvaluatedKey" not in response:
                return found
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    async def dead(self) -> list[Dead]:
        """Return all dead letters and make them visible again."""
        messages = await asyncio.to_thread(self._receive_all, self.dead_letter_url)
        for message in messages:
            await asyncio.to_thread(
                self.sqs.change_message_visibility,
                QueueUrl=self.dead_letter_url,
                ReceiptHandle=message["ReceiptHandle"],
                VisibilityTimeout=0,
            )
        return [Dead(each["Body"], each.get("MessageAttributes", {})) for each in messages]

    async def waiting(self) -> tuple[int, int]:
        """Return how many messages of the source queue are visible and in flight."""
        return await asyncio.to_thread(self._count)

    def _count(self) -> tuple[int, int]:
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        response = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=names)
        visible, in_flight = (int(response["Attributes"][name]) for name in names)
        return visible, in_flight

    def _receive_all(self, url: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            response = self.sqs.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                VisibilityTimeout=600,
                MessageAttributeNames=["All"],
            )
            if not response.get("Messages"):
                return found
            found += response["Messages"]


def stated(number: int, **changes: Any) -> dict[str, Any]:
    """Return an acceptance as an application would send it."""
    version = str(changes.get("version", "2026-01"))
    return {
        "event_id": f"event-{number}",
        "user_id": f"user-{number}",
        "policy_id": POLICY,
        "version": version,
        "accepted_at": "2026-01-15T10:00:00Z",
        "content_sha256": sha256(TEXTS.get(version, version)),
        **PRIVATE,
        **changes,
    }


def good(count: int, first: int = 0) -> list[str]:
    """Return acceptances of this many users."""
    return [json.dumps(stated(number)) for number in range(first, first + count)]


def now() -> datetime:
    """Return the current time."""
    return datetime.now(UTC)
