"""The demonstration with `--keep`, and a worker in its environment."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import boto3

from tests.process.environment import COMMAND, DEADLINE_SECONDS, wait_until
from tests.process.forked import Fork

BASE_ENVIRONMENT: Final = {
    "PATH": f"{Path(COMMAND).parent}:{os.environ['PATH']}",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def kept_demo(**environment: str) -> Iterator[Fork]:
    """Run the demonstration during the block; then it must end on SIGINT with exit code 0."""
    with Fork(
        ["demo", "--keep"], BASE_ENVIRONMENT | environment, stdout=subprocess.PIPE
    ) as process:
        yield process
        process.send_signal(signal.SIGINT)
        assert process.wait(DEADLINE_SECONDS) == 0


def run_worker(environment: dict[str, str]) -> None:
    """Run the service until the queue is empty."""
    sqs: Any = boto3.client(
        "sqs", region_name="us-east-1", endpoint_url=environment["AWS_ENDPOINT_URL"]
    )
    url = sqs.get_queue_url(QueueName=environment["AUP_QUEUE"])["QueueUrl"]

    def is_empty() -> bool:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return not any(int(attributes[name]) for name in names)

    with Fork(["run"], environment) as worker:
        wait_until(is_empty, "every message is settled")
        worker.send_signal(signal.SIGINT)
        assert worker.wait(DEADLINE_SECONDS) == 0
