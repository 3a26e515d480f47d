"""The walkthroughs of infra/operations.md, run as they stand there on `aup-worker demo --keep`."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import Document, blocks, session
from tests.process.environment import DEADLINE_SECONDS
from tests.process.kept_demo import BASE_ENVIRONMENT, kept_demo, run_worker

OPERATIONS = Document("infra/operations.md")
HEADINGS = ("## From an alarm to an empty dead-letter queue", "### Verify, export, erase")
MARK = "@@@"

pytestmark = pytest.mark.timeout(300)


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
    with kept_demo("--json") as demo:
        assert demo.stdout is not None
        report = json.loads(demo.stdout.readline())
        assert report["sound"]
        environment = BASE_ENVIRONMENT | report["environment"]
        for heading in HEADINGS:
            for number, steps in enumerate(_until_worker(session(OPERATIONS.section(heading)))):
                if number:
                    run_worker(environment)
                outputs = _run([command for command, _ in steps], environment, tmp_path)
                for (command, documented), output in zip(steps, outputs, strict=True):
                    _check_output(documented, output, command)
            for code in blocks(OPERATIONS.section(heading), "python"):
                # After the erasure: the exported file still has the address.
                _run([shlex.join([sys.executable, "-c", code])], environment, tmp_path)


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
