"""The walkthroughs of infra/operations.md, run as they stand there on `aup-worker demo --keep`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.documents import Document, blocks, session
from tests.process.workplace import COMMAND, DEADLINE_SECONDS, wait_until

OPERATIONS = Document("infra/operations.md")
HEADINGS = ("## From an alarm to an empty dead-letter queue", "### Verify, export, erase")
MARK = "@@@"

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("jq") is None, reason="there is no jq here"),
]


@contextmanager
def _demo(directory: Path) -> Iterator[dict[str, str]]:
    """Run the demo as long as the block lasts; yield the environment that it prints."""
    programs = f"{Path(COMMAND).parent}:{os.environ['PATH']}"
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "demo", "--keep", "--json"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={"PATH": programs, "HOME": str(directory)},
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            report = json.loads(process.stdout.readline())
            assert report["sound"]
            yield {"PATH": programs, "HOME": str(directory), **report["environment"]}
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(DEADLINE_SECONDS) == 0


def _run(commands: list[str], environment: dict[str, str], directory: Path) -> list[str]:
    """Run commands in one shell until the first that fails; return the output of each."""
    script = "\n".join(f"{command}\necho {MARK}" for command in commands)
    done = subprocess.run(  # noqa: S603 - the document's own commands
        ["/bin/sh", "-ec", script],
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * DEADLINE_SECONDS,
        check=False,
    )
    outputs = done.stdout.split(f"{MARK}\n")
    assert done.returncode == 0, f"{commands[len(outputs) - 1]}: {outputs[-1]}"
    return outputs[:-1]


def _run_worker(environment: dict[str, str]) -> None:
    """Run the service until the queue is empty."""
    sqs: Any = boto3.client(
        "sqs", region_name="us-east-1", endpoint_url=environment["AWS_ENDPOINT_URL"]
    )
    url = sqs.get_queue_url(QueueName=environment["AUP_QUEUE"])["QueueUrl"]

    def is_empty() -> bool:
        attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        names = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
        return not any(int(attributes[name]) for name in names)

    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "run"], env=environment, stderr=subprocess.DEVNULL
    ) as worker:
        try:
            wait_until(is_empty, "every message is settled")
        finally:
            worker.send_signal(signal.SIGTERM)
        assert worker.wait(DEADLINE_SECONDS) == 0


def _comparable(line: str) -> str:
    """Return a line without what differs from run to run: ids, hashes, numbers and spaces."""
    without_ids = re.sub(
        r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b|\b[0-9a-f]{64}\b", "ID", line
    )
    return " ".join(re.sub(r"\d+(\.\d+)?", "0", without_ids).split())


def _check_output(documented: list[str], output: str, command: str) -> None:
    """Assert that each documented line is in the output; `…` stands for the rest of a line."""
    lines = [_comparable(line) for line in output.splitlines()]
    for line in documented:
        start, cut, _ = line.partition("…")
        wanted = _comparable(start)
        found = any(each.startswith(wanted) if cut else each == wanted for each in lines)
        assert found, f"{command}\n{line}\nis not in\n{output}"


def test_walkthroughs_run_as_written_and_print_what_they_show(tmp_path: Path) -> None:
    with _demo(tmp_path) as environment:
        for heading in HEADINGS:
            for number, steps in enumerate(_until_worker(session(OPERATIONS.section(heading)))):
                if number:
                    _run_worker(environment)
                outputs = _run([command for command, _ in steps], environment, tmp_path)
                for (command, documented), output in zip(steps, outputs, strict=True):
                    _check_output(documented, output, command)
            for code in blocks(OPERATIONS.section(heading), "python"):
                # Before the erasure: the exported file keeps the address.
                _run([f"{sys.executable} -c '{code}'"], environment, tmp_path)


def _until_worker(
    steps: list[tuple[str, list[str]]],
) -> Iterator[list[tuple[str, list[str]]]]:
    """Split steps where a worker runs, which does not end by itself."""
    part: list[tuple[str, list[str]]] = []
    for command, documented in steps:
        if command == "aup-worker run":
            yield part
            part = []
        else:
            part.append((command, documented))
    yield part
