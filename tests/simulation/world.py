"""Simulated environment of the workers: both services, their contents and the audit."""
# ruff: noqa: N803 - AWS's parameter names

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.given import given
from tests.simulation.audit import Audit, WorkerLimits
from tests.simulation.earlier_release import item_of_format_1
from tests.simulation.faults import Faults
from tests.simulation.outages import DENIAL_CODES, Outages
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.trace import Trace
from tests.simulation.traffic import (
    LANGUAGES,
    LATE,
    POLICY,
    PUBLISHED,
    TEXTS,
    SentMessage,
    sha256,
)
from tests.simulation.virtual_clock import START
from worker.settings import AWSSettings, Settings

DEAD_LETTERS = "dead"
SOURCE = "source"
MAX_RECEIVE_COUNT = 12
LONG_RETENTION_SECONDS = (345_600, 1_209_600)
_KEYS = {
    "aup-policies": ("policy_id", "version"),
    "aup-acceptances": ("user_id", "policy_version"),
}


class AuditedSQS(SimulatedSQS):
    """Simulated SQS that reports each settlement and extension to the audit."""

    audit: Audit

    async def delete_message_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        if QueueUrl == self.audit.source.url:
            for entry in Entries:
                self.audit.note_settling(entry["ReceiptHandle"])
        try:
            return await super().delete_message_batch(QueueUrl=QueueUrl, Entries=Entries)
        except ClientError as error:
            if error.response["Error"].get("QueryErrorCode") in DENIAL_CODES:
                for entry in Entries:
                    self.audit.note_settling_denied(entry["ReceiptHandle"])
            raise

    async def change_message_visibility_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        if QueueUrl == self.audit.source.url:
            for entry in Entries:
                extends = entry["VisibilityTimeout"] == self.audit.limits.lease_seconds
                note = self.audit.note_extension if extends else self.audit.note_settling
                note(entry["ReceiptHandle"])
        return await super().change_message_visibility_batch(QueueUrl=QueueUrl, Entries=Entries)


class AuditedDynamoDB(SimulatedDynamoDB):
    """Simulated DynamoDB that reports batches rejected as a whole to the audit."""

    audit: Audit

    async def batch_execute_statement(
        self, *, Statements: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        try:
            return await super().batch_execute_statement(Statements=Statements)
        except ClientError as error:
            if error.response["Error"].get("Code") == "ValidationException":
                self.audit.problems.append(f"a whole batch was rejected: {error}")
            raise


@dataclass(slots=True)
class World:
    """Environment in which workers run.

    Attributes:
        sqs_faults: Faults of the queues.
        table_faults: Faults of the tables.
        outages: Faults that last.
    """

    settings: Settings
    trace: Trace
    sqs_faults: Faults
    table_faults: Faults
    outages: Outages
    sqs: AuditedSQS
    dynamodb: AuditedDynamoDB
    audit: Audit

    @classmethod
    async def opened(
        cls,
        seed: int,
        trace: Trace | None = None,
        *,
        write_api: str = "batch",
        retention_seconds: tuple[int, int] = LONG_RETENTION_SECONDS,
        max_receive_count: int = MAX_RECEIVE_COUNT,
        **changes: Any,
    ) -> World:
        """Create queues and tables and publish the first policy, without faults.

        Args:
            seed: Seed of all faults.
            trace: Receives the steps.
            write_api: Write API of the worker.
            retention_seconds: Retention of the source queue and of the dead-letter queue.
            max_receive_count: Receive count after which SQS moves a message to the dead letters.
            changes: Settings that differ from the defaults.
        """
        trace = trace or Trace()
        sqs_faults, table_faults = Faults(seed), Faults(seed + 1)
        sqs, dynamodb = AuditedSQS(sqs_faults), AuditedDynamoDB(table_faults)
        outages = Outages({"sqs": sqs_faults, "dynamodb": table_faults})
        await _create_queues(sqs, *retention_seconds, max_receive_count)
        await _create_tables(dynamodb)
        settings = make_settings(sqs, write_api, **changes)
        audit = Audit(
            sqs.queue(SOURCE),
            sqs.queue(DEAD_LETTERS),
            dynamodb.tables["aup-acceptances"],
            sqs_faults,
            outages,
            WorkerLimits(
                settings.max_attempts,
                settings.visibility_timeout_seconds,
                settings.unknown_policy_seconds,
            ),
            trace,
        )
        sqs.audit = dynamodb.audit = audit
        world = cls(settings, trace, sqs_faults, table_faults, outages, sqs, dynamodb, audit)
        world.publish(PUBLISHED)
        return world

    def session(self) -> SimulatedSession:
        """Return a session for one process."""
        return SimulatedSession(self.sqs, self.dynamodb)

    def publish(self, version: str) -> None:
        """Publish a version of the policy at once, without faults."""
        self.trace.add(f"policy {version} is published")
        now = START.isoformat()
        item = {
            "policy_id": POLICY,
            "version": version,
            "title": "Acceptable use",
            "content_sha256": sha256(TEXTS[version]),
            "published_at": now,
            "effective_at": now,
        }
        self.dynamodb.tables["aup-policies"].put((POLICY, version), item)
        self.audit.policy_published_at.setdefault(version, asyncio.get_running_loop().time())

    def publish_late(self) -> None:
        """Publish the late version, unless it is published already."""
        if LATE not in self.audit.policy_published_at:
            self.publish(LATE)

    def publish_language(self) -> None:
        """Publish the next language of the first version, unless all are published already."""
        if self.audit.origins.languages == len(LANGUAGES):
            return
        locale, text = LANGUAGES[self.audit.origins.languages]
        self.trace.add(f"policy {PUBLISHED} is published in {locale}")
        number = str(self.audit.origins.note_published(locale, text))
        key = (f"{POLICY}#{PUBLISHED}", number)
        item = {"locale": locale, "content_sha256": sha256(text)}
        self.dynamodb.tables["aup-policies"].put(
            key, {"policy_id": key[0], "version": key[1], **item}
        )

    def record_earlier(self, sent_message: SentMessage) -> None:
        """Record an acceptance at once, as an earlier release did."""
        assert sent_message.key is not None
        stated = dict(sent_message.stated)
        if sent_message.extra:
            stated["extra"] = json.dumps(sent_message.extra)
        item = item_of_format_1(stated, START, START)
        self.audit.sent_messages[sent_message.body] = sent_message
        self.audit.origins.earlier.add(item["record_sha256"])
        self.audit.store.put(sent_message.key, item)

    def send(self, sent_message: SentMessage) -> None:
        """Send all copies of a message at once, without faults."""
        self.audit.sent_messages[sent_message.body] = sent_message
        for _ in range(sent_message.copies):
            self.audit.source.send(sent_message.body, sent_message.attributes, {}, None)

    def stop_faults(self) -> None:
        """Stop all faults for good."""
        self.trace.add("the faults stop")
        self.sqs_faults.stop()
        self.table_faults.stop()

    async def until(self, holds: Callable[[], bool], within_seconds: float, what: str) -> None:
        """Wait until a condition holds.

        Raises:
            AssertionError: The deadline has passed.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + within_seconds
        while not holds():
            assert loop.time() < deadline, f"not within {within_seconds:g} s: {what}"
            await asyncio.sleep(1.0)


async def _create_queues(
    sqs: SimulatedSQS,
    retention_seconds: int,
    dead_letter_retention_seconds: int,
    max_receive_count: int,
) -> None:
    retention = {"MessageRetentionPeriod": str(dead_letter_retention_seconds)}
    await sqs.create_queue(QueueName=DEAD_LETTERS, Attributes=retention)
    arn = sqs.queue(DEAD_LETTERS).arn
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "{max_receive_count}"}}'
    await sqs.create_queue(
        QueueName=SOURCE,
        Attributes={"RedrivePolicy": policy, "MessageRetentionPeriod": str(retention_seconds)},
    )


async def _create_tables(dynamodb: SimulatedDynamoDB) -> None:
    for name, keys in _KEYS.items():
        schema = [
            {"AttributeName": key, "KeyType": kind}
            for key, kind in zip(keys, ("HASH", "RANGE"), strict=True)
        ]
        await dynamodb.create_table(TableName=name, KeySchema=schema)


def make_settings(sqs: SimulatedSQS, write_api: str, **changes: Any) -> Settings:
    """Return settings with short times; a return delay is always shorter than a lease."""
    aws: dict[str, Any] = {"region": "eu-west-1", "write_api": write_api, "fast_calls": False}
    return given(
        Settings,
        {
            "aws": given(AWSSettings, aws),
            "queue": sqs.queue(SOURCE).url,
            "dead_letter_queue": sqs.queue(DEAD_LETTERS).url,
            "slots": 30,
            "poll_concurrency": 2,
            "settle_concurrency": 4,
            "visibility_timeout_seconds": 60,
            "backoff_cap_seconds": 30.0,
            **changes,
        },
    )
