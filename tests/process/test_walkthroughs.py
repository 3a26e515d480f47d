"""`aup-worker demo --keep`: its result, the commands that it prints, and the walkthroughs of
infra/operations.md, which run in its environment as they stand there.
"""  # noqa: D205 - one sentence

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from tests.documents import Document, blocks, session
from tests.process.environment import DEADLINE_SECONDS
from tests.process.kept_demo import BASE_ENVIRONMENT, kept_demo, run_worker

OPERATIONS = Document("infra/operations.md")
HEADINGS = (
    "## From an alarm to an empty dead-letter queue",
    "### Texts of policies",
    "### Verify, export, erase",
)
MARK = "@@@"
_REPLAY = "aup-worker replay --reason unknown_policy"
_LAST_COMMAND = "aup-worker doctor"

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


def _check_accounting(text: str) -> None:
    """Assert that the demo lost nothing; its exit code states the same."""
    found = re.search(
        r"(\d+) sent = (\d+) recorded \+ (\d+) duplicates \+ (\d+) dead letters \+ 0 lost, "
        r"in (\S+) s",
        text,
    )
    assert found, text
    sent, recorded, duplicates, dead_lettered = map(int, found.groups()[:4])
    assert sent == recorded + duplicates + dead_lettered
    assert float(found[5]) < DEADLINE_SECONDS
    reasons = dict(re.findall(r"^ +(\w+) +(\d+) +\S", text, re.MULTILINE))
    assert set(reasons) == {"malformed", "invalid", "unknown_policy", "conflict"}


def _printed(stdout: IO[bytes]) -> tuple[str, dict[str, str], list[str]]:
    """Return the report, the exported variables and the commands that the demo prints."""
    report = ""
    exports: dict[str, str] = {}
    commands: list[str] = []
    for line in (raw.decode() for raw in stdout):
        if line.startswith("export "):
            name, _, value = shlex.split(line)[1].partition("=")
            exports[name] = value
        elif line.startswith("  aup-worker "):
            commands.append(line.strip())
        else:
            report += line
        if line.strip() == _LAST_COMMAND:
            return report, exports, commands
    raise AssertionError(f"the demo ended: {report}")


def _walk_through(heading: str, environment: dict[str, str], directory: Path) -> list[str]:
    """Run a walkthrough, check what it shows, and return its commands."""
    section = OPERATIONS.section(heading)
    for number, steps in enumerate(_until_worker(session(section))):
        if number:
            run_worker(environment)
        outputs = _run([command for command, _ in steps], environment, directory)
        for (command, documented), output in zip(steps, outputs, strict=True):
            _check_output(documented, output, command)
    for code in blocks(section, "python"):
        # After the erasure: the exported file still has the address.
        _run([shlex.join([sys.executable, "-c", code])], environment, directory)
    return [command for command, _ in session(section)]


def test_demo_balances_and_the_commands_printed_and_documented_work_in_it_until_ctrl_c(
    tmp_path: Path,
) -> None:
    with kept_demo(AUP_QUEUE="must-not-be-used") as demo:
        assert demo.stdout is not None
        report, exports, printed = _printed(demo.stdout)
        _check_accounting(report)
        environment = BASE_ENVIRONMENT | exports
        directory = Path(exports["XDG_STATE_HOME"]).parent
        assert directory.exists()
        publish = next(each for each in printed if " policy publish " in each)
        place = printed.index(publish)
        before, after = printed[:place], printed[place + 1 :]
        _run(before, environment, tmp_path)
        documented = _walk_through(HEADINGS[0], environment, tmp_path)
        # The walkthrough has run these three, which change what they find.
        assert after[:3] == [f"{_REPLAY} --dry-run", _REPLAY, "aup-worker run"]
        assert set(after[:3]) < set(documented)
        # Published with another title by the walkthrough, so the same for another version.
        publish = publish.replace("--version 2026-03 ", "--version 2026-04 ")
        last = [publish, *after[3:], "aup-worker accepted u-900 --verify"]
        outputs = dict(zip(last, _run(last, environment, tmp_path), strict=True))
        evidence = f"aup-worker accepted u-42 --verify --export {directory}/u-42.html"
        assert "1 record, 1 verified" in outputs[evidence]
        verify = f"aup-worker verify {directory}/u-42.json"
        assert "1 record of u-42: 1 sound\n" in outputs[verify]
        assert "2026-04" in outputs[publish]
        assert "2026-03" in outputs[last[-1]]
        for heading in HEADINGS[1:]:
            _walk_through(heading, environment, tmp_path)
    assert not directory.exists()


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
