"""Hold everything outside the workers: both services, what is in them, and the audit of it."""
# ruff: noqa: N803 - the arguments bear AWS's names

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from tests.simulation.audit import Audit, Terms
from tests.simulation.faults import Faults
from tests.simulation.outages import REFUSALS, Outages
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.trace import Trace
from tests.simulation.traffic import LATE, POLICY, PUBLISHED, TEXTS, Sending, sha256
from tests.simulation.virtual_clock import START
from worker.settings import AWSSettings, Settings

DEAD_LETTERS = "dead"
SOURCE = "source"
MAX_RECEIVE_COUNT = 12
AMPLE_RETENTION_SECONDS = (345_600, 1_209_600)
_KEYS = {
    "aup-policies": ("policy_id", "version"),
    "aup-acceptances": ("user_id", "policy_version"),
}


class WatchedSQS(SimulatedSQS):
    """Tell the audit what is asked for, at the moment of asking."""

    audit: Audit

    async def delete_message_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        if QueueUrl == self.audit.source.url:
            for entry in Entries:
                self.audit.settling_begins(entry["ReceiptHandle"])
        try:
            return await super().delete_message_batch(QueueUrl=QueueUrl, Entries=Entries)
        except ClientError as error:
            if error.response["Error"].get("QueryErrorCode") in REFUSALS:
                for entry in Entries:
                    self.audit.settling_refused(entry["ReceiptHandle"])
            raise

    async def change_message_visibility_batch(
        self, *, QueueUrl: str, Entries: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        if QueueUrl == self.audit.source.url:
            for entry in Entries:
                extends = entry["VisibilityTimeout"] == self.audit.terms.lease_seconds
                tell = self.audit.extending_begins if extends else self.audit.settling_begins
                tell(entry["ReceiptHandle"])
        return await super().change_message_visibility_batch(QueueUrl=QueueUrl, Entries=Entries)


class WatchedDynamoDB(SimulatedDynamoDB):
    """Tell the audit of requests that can never succeed: one bad statement spoils its batch."""

    audit: Audit

    async def batch_execute_statement(
        self, *, Statements: Sequence[Mapping[str, Any]]
    ) -> dict[str, Any]:
        try:
            return await super().batch_execute_statement(Statements=Statements)
        except ClientError as error:
            if error.response["Error"].get("Code") == "ValidationException":
                self.audit.problems.append(f"a batch was refused whole: {error}")
            raise


@dataclass(slots=True)
class World:
    """Be the place in which workers live.

    Attributes:
        sqs_faults: What goes wrong with the queues.
        table_faults: What goes wrong with the tables.
        outages: What goes wrong for a while.
    """

    settings: Settings
    trace: Trace
    sqs_faults: Faults
    table_faults: Faults
    outages: Outages
    sqs: WatchedSQS
    dynamodb: WatchedDynamoDB
    audit: Audit

    @classmethod
    async def opened(
        cls,
        seed: int,
        trace: Trace | None = None,
        *,
        write_api: str = "batch",
        retention_seconds: tuple[int, int] = AMPLE_RETENTION_SECONDS,
        max_receive_count: int = MAX_RECEIVE_COUNT,
        **changes: Any,
    ) -> World:
        """Create queues and tables, and publish the first policy; nothing fails yet.

        Args:
            seed: decides every fault.
            trace: is told what happens.
            write_api: how the worker writes.
            retention_seconds: of the source queue, and of the dead-letter queue.
            max_receive_count: after which SQS itself moves a message to the dead letters.
            changes: other settings than usual.
        """
        trace = trace or Trace()
        sqs_faults, table_faults = Faults(seed), Faults(seed + 1)
        sqs, dynamodb = WatchedSQS(sqs_faults), WatchedDynamoDB(table_faults)
        outages = Outages({"sqs": sqs_faults, "dynamodb": table_faults})
        await _create_queues(sqs, *retention_seconds, max_receive_count)
        for name, keys in _KEYS.items():
            schema = [
                {"AttributeName": key, "KeyType": kind}
                for key, kind in zip(keys, ("HASH", "RANGE"), strict=True)
            ]
            await dynamodb.create_table(TableName=name, KeySchema=schema)
        settings = make_settings(sqs, write_api, **changes)
        audit = Audit(
            sqs.queue(SOURCE),
            sqs.queue(DEAD_LETTERS),
            dynamodb.tables["aup-acceptances"],
            sqs_faults,
            outages,
            Terms(
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
        """Make a process's session."""
        return SimulatedSession(self.sqs, self.dynamodb)

    def publish(self, version: str) -> None:
        """Publish a version of the policy, at once and without fail."""
        self.trace.tell(f"policy {version} is published")
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
        """Publish the version that many wait for."""
        if LATE not in self.audit.policy_published_at:
            self.publish(LATE)

    def send(self, sending: Sending) -> None:
        """Send a message as often as it wants to be sent, at once and without fail."""
        self.audit.sendings[sending.body] = sending
        for _ in range(sending.copies):
            self.audit.source.send(sending.body, sending.attributes, {}, None)

    def quiet_down(self) -> None:
        """End all faults for good."""
        self.trace.tell("the faults stop")
        self.sqs_faults.stop()
        self.table_faults.stop()

    async def until(self, holds: Callable[[], bool], within_seconds: float, what: str) -> None:
        """Wait for something that must come to pass in time.

        Raises:
            AssertionError: It did not.
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


def make_settings(sqs: SimulatedSQS, write_api: str, **changes: Any) -> Settings:
    """Make settings with short times; a hand-back never lasts as long as a lease."""
    aws: dict[str, Any] = {"region": "eu-west-1", "write_api": write_api, "fast_calls": False}
    return Settings(
        **{
            "aws": AWSSettings(**aws),
            "queue": sqs.queue(SOURCE).url,
            "dead_letter_queue": sqs.queue(DEAD_LETTERS).url,
            "slots": 30,
            "poll_concurrency": 2,
            "settle_concurrency": 4,
            "visibility_timeout_seconds": 60,
            "backoff_cap_seconds": 30.0,
            **changes,
        }
    )
