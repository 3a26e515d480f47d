"""The queues and tables of one test, and the installed command to run on them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3

from tests.private import PRIVATE, find_private_text
from tests.process import forked

COMMAND: Final = str(Path(sys.executable).with_name("aup-worker"))
DEADLINE_SECONDS: Final = 60.0


def wait_until(reached: Callable[[], bool], what: str) -> None:
    """Wait for a condition under a deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS:g} s: {what}"
        time.sleep(0.05)


class Environment:
    """Queues and tables of one test on a shared server, accessed through boto3.

    Attributes:
        variables: Environment variables of every verb.
        constants: Values that replace those of constants in verbs, by `module:name`.
    """

    def __init__(
        self, url: str, dynamodb_url: str | None = None, *, write_api: str = "put"
    ) -> None:
        name = f"t-{uuid.uuid4().hex[:12]}"
        self.variables = {
            "PATH": os.environ["PATH"],
            "AWS_ENDPOINT_URL": url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AUP_QUEUE": f"{name}-queue",
            "AUP_DEAD_LETTER_QUEUE": f"{name}-dead",
            "AUP_TABLE_NAME": f"{name}-policies",
            "AUP_USER_TABLE_NAME": f"{name}-users",
            "AUP_WRITE_API": write_api,
            "AUP_WAIT_SECONDS": "1",
            "AUP_BACKOFF_BASE_SECONDS": "0.2",
            "AUP_BACKOFF_CAP_SECONDS": "1",
            "AUP_UNKNOWN_POLICY_SECONDS": "0.5",
            "AUP_SUMMARY_SECONDS": "0.5",
        }
        if dynamodb_url is not None:
            self.variables["AWS_ENDPOINT_URL_DYNAMODB"] = dynamodb_url
        self.constants: dict[str, float] = {}
        session = boto3.Session(region_name="us-east-1")  # with the credentials that every test has
        self.sqs: Any = session.client("sqs", endpoint_url=url)
        self.dynamodb: Any = session.resource("dynamodb", endpoint_url=dynamodb_url or url)

    def run(
        self, *arguments: str, stdin: str | bytes | None = None, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a verb and wait for it to exit."""
        data = stdin.encode() if isinstance(stdin, str) else stdin or b""
        variables = self.variables | changes
        if any(name.startswith(forked.AT_START) for name in changes):
            completed = subprocess.run(  # noqa: S603 - our own command
                [COMMAND, *arguments],
                env=variables,
                input=data,
                capture_output=True,
                timeout=DEADLINE_SECONDS,
                check=False,
            )
        else:
            completed = forked.run(
                arguments,
                environment=variables,
                stdin=data,
                timeout_seconds=DEADLINE_SECONDS,
                constants=self.constants,
            )
        return subprocess.CompletedProcess(
            completed.args,
            completed.returncode,
            completed.stdout.decode(),
            _checked_log(completed.stderr),
        )

    def set_up(self) -> None:
        """Create queues and tables, and publish the version that most tests accept."""
        dead_letters = self.sqs.create_queue(QueueName=self.variables["AUP_DEAD_LETTER_QUEUE"])
        response = self.sqs.get_queue_attributes(
            QueueUrl=dead_letters["QueueUrl"], AttributeNames=["QueueArn"]
        )
        self.sqs.set_queue_attributes(
            QueueUrl=dead_letters["QueueUrl"], Attributes={"MessageRetentionPeriod": "1209600"}
        )
        redrive = {
            "deadLetterTargetArn": response["Attributes"]["QueueArn"],
            "maxReceiveCount": 12,
        }
        self.sqs.create_queue(
            QueueName=self.variables["AUP_QUEUE"],
            Attributes={"RedrivePolicy": json.dumps(redrive)},
        )
        self._table("AUP_TABLE_NAME", "policy_id", "version")
        self._table("AUP_USER_TABLE_NAME", "user_id", "policy_version")
        self.publish("2026-01")

    def _table(self, variable: str, *key: str) -> None:
        self.dynamodb.create_table(
            TableName=self.variables[variable],
            KeySchema=[
                {"AttributeName": name, "KeyType": kind}
                for name, kind in zip(key, ("HASH", "RANGE"), strict=True)
            ],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in key],
            BillingMode="PAY_PER_REQUEST",
        )

    def publish(self, version: str) -> None:
        """Publish a version of the policy."""
        self.dynamodb.Table(self.variables["AUP_TABLE_NAME"]).put_item(
            Item={
                "policy_id": "aup",
                "version": version,
                "title": "aup",
                "content_sha256": "ab" * 32,
                "published_at": "2026-01-01T00:00:00.000Z",
                "effective_at": "2026-01-01T00:00:00.000Z",
            }
        )

    @contextmanager
    def service(self, **changes: str) -> Iterator[Service]:
        """Run the service until the block ends."""
        with self._start("run", changes) as process:
            try:
                yield Service(process)
            finally:
                if process.poll() is None:
                    process.kill()

    def _start(self, verb: str, changes: dict[str, str]) -> forked.Fork | subprocess.Popen[bytes]:
        variables = self.variables | changes
        if any(name.startswith(forked.AT_START) for name in changes):
            return subprocess.Popen(  # noqa: S603 - our own command
                [COMMAND, verb], env=variables, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
        return forked.Fork([verb], variables, stderr=subprocess.PIPE, constants=self.constants)

    def send(self, *bodies: str, to: str = "AUP_QUEUE") -> None:
        """Send raw bodies with boto3."""
        for start in range(0, len(bodies), 10):
            entries = [
                {"Id": str(number), "MessageBody": body}
                for number, body in enumerate(bodies[start : start + 10])
            ]
            response = self.sqs.send_message_batch(QueueUrl=self.url(to), Entries=entries)
            assert not response.get("Failed")

    def url(self, variable: str) -> str:
        """Return the URL of a queue."""
        return str(self.sqs.get_queue_url(QueueName=self.variables[variable])["QueueUrl"])

    def depth(self, variable: str) -> int:
        """Count the messages in a queue, visible or not."""
        response = self.sqs.get_queue_attributes(
            QueueUrl=self.url(variable), AttributeNames=["All"]
        )["Attributes"]
        return sum(
            int(response[f"ApproximateNumberOfMessages{kind}"])
            for kind in ("", "NotVisible", "Delayed")
        )

    def visible(self, variable: str) -> int:
        """Count the visible messages of a queue."""
        response = self.sqs.get_queue_attributes(
            QueueUrl=self.url(variable), AttributeNames=["ApproximateNumberOfMessages"]
        )
        return int(response["Attributes"]["ApproximateNumberOfMessages"])

    def recorded(self) -> Counter[str]:
        """Count the records by event id."""
        table = self.dynamodb.Table(self.variables["AUP_USER_TABLE_NAME"])
        request: dict[str, Any] = {"ConsistentRead": True}
        counts: Counter[str] = Counter()
        while True:
            response = table.scan(**request)
            counts.update(str(item["event_id"]) for item in response["Items"])
            if "LastEvaluatedKey" not in response:
                return counts
            request["ExclusiveStartKey"] = response["LastEvaluatedKey"]

    def dead_letters(self) -> list[dict[str, Any]]:
        """Return what `dead-letters list` prints."""
        completed = self.run("dead-letters", "list", "--json")
        assert completed.returncode == 0, completed.stderr
        dead_letters: list[dict[str, Any]] = json.loads(completed.stdout)["dead_letters"]
        return dead_letters


class Service:
    """A running service."""

    def __init__(self, process: forked.Fork | subprocess.Popen[bytes]) -> None:
        self.process = process
        self.log: list[dict[str, Any]] = []

    def wait_for(self, event: str) -> dict[str, Any]:
        """Read the log until an event is logged, and return its line."""
        assert self.process.stderr is not None
        for raw in self.process.stderr:
            line: dict[str, Any] = json.loads(_checked_log(raw))
            self.log.append(line)
            if line["event"] == event:
                return line
        raise AssertionError(f"the service ended without {event!r}: {self.log[-3:]}")

    def end(self, *signals: int) -> tuple[int, dict[str, Any]]:
        """Send signals, and return the exit code and the final figures.

        Raises:
            AssertionError: The accounting does not balance.
        """
        assert self.process.stderr is not None
        for number in signals:
            self.process.send_signal(number)
        rest = _checked_log(self.process.stderr.read())
        code = self.process.wait(DEADLINE_SECONDS)
        figures: dict[str, Any] = {}
        for text in rest.splitlines():
            if text.startswith("{"):
                self.log.append(json.loads(text))
            else:
                self.log.append({"event": "plain", "text": text})
        for line in self.log:
            if line["event"] == "stopped":
                figures = line
        assert figures.get("balanced", True)
        return code, figures


def _checked_log(log: bytes) -> str:
    """Return the text of a log, which must contain nothing private."""
    text = log.decode()
    part = find_private_text(text)
    assert part is None, f"the log contains something private: {part}"
    return text


def acceptance(number: int, **changes: Any) -> dict[str, Any]:
    """Return a valid acceptance."""
    return {
        "event_id": f"e-{number}",
        "user_id": f"u-{number}",
        "policy_id": "aup",
        "version": "2026-01",
        "accepted_at": "2026-11-01T10:00:00Z",
        **PRIVATE,
        **changes,
    }


def body(number: int, **changes: Any) -> str:
    """Return the body of a valid message."""
    return json.dumps(acceptance(number, **changes))
