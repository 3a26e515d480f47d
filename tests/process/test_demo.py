"""`demo --keep` and the commands that it prints."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS, Service, wait_until

_VARIABLES = {"PATH": os.environ["PATH"], "AWS_EC2_METADATA_DISABLED": "true"}
_LAST_COMMAND = "aup-worker doctor"


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "demo", "--keep"],
        env=_VARIABLES | {"AUP_QUEUE": "must-not-be-used"},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _printed(demo: subprocess.Popen[str]) -> tuple[dict[str, str], list[list[str]]]:
    """Return the exported variables and the commands that the demo prints."""
    assert demo.stdout is not None
    exports: dict[str, str] = {}
    commands: list[list[str]] = []
    for line in demo.stdout:
        words = shlex.split(line) if line.startswith(("export ", "  aup-worker ")) else []
        if words[:1] == ["export"]:
            name, _, value = words[1].partition("=")
            exports[name] = value
        elif words:
            commands.append(words[1:])
        if line.strip() == _LAST_COMMAND:
            return exports, commands
    raise AssertionError(f"the demo exited with code {demo.wait(DEADLINE_SECONDS)}")


def _run(arguments: list[str], variables: dict[str, str]) -> str:
    done = subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *arguments],
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout + done.stderr


def _serve_until_recorded(count: int, variables: dict[str, str]) -> None:
    changes = {"AUP_LOG_FORMAT": "json", "AUP_SUMMARY_SECONDS": "0.25"}
    with subprocess.Popen(  # noqa: S603 - our own command
        [COMMAND, "run"],
        env=variables | changes,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        service = Service(process)
        try:
            wait_until(
                lambda: service.wait_for("summary")["recorded"] == count, f"{count} recorded"
            )
            code, _ = service.end(signal.SIGINT)
            assert code == 0
        finally:
            if process.poll() is None:
                process.kill()


def test_printed_commands_work_in_the_kept_environment_until_ctrl_c(
    demo: subprocess.Popen[str],
) -> None:
    exports, commands = _printed(demo)
    variables = _VARIABLES | exports
    outputs: dict[str, str] = {}
    for arguments in commands:
        if arguments == ["run"]:
            _serve_until_recorded(12, variables)
        else:
            outputs[shlex.join(arguments)] = _run(arguments, variables)
    directory = Path(exports["XDG_STATE_HOME"]).parent
    reasons = {"conflict", "invalid", "malformed", "unknown_policy"}
    assert all(reason in outputs["dead-letters list"] for reason in reasons)
    dry_run = "replay --reason unknown_policy --dry-run"
    assert "12 selected, 12 would succeed" in outputs[dry_run], "after the policy is published"
    assert "replayed 12 of 12" in outputs["replay --reason unknown_policy"]
    accepted = f"accepted u-42 --verify --export {directory}/u-42.html"
    assert "1 record, 1 verified" in outputs[accepted]
    assert "2026-03" in _run(["accepted", "u-900", "--verify"], variables)
    demo.send_signal(signal.SIGINT)
    assert demo.wait(DEADLINE_SECONDS) == 0
    assert not directory.exists()
