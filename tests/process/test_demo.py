"""`demo --keep` and the commands that it prints."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from tests.process.environment import COMMAND, DEADLINE_SECONDS
from tests.process.kept_demo import BASE_ENVIRONMENT, kept_demo, run_worker

_LAST_COMMAND = "aup-worker doctor"


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


def test_printed_commands_work_in_the_kept_environment_until_ctrl_c() -> None:
    outputs: dict[str, str] = {}
    with kept_demo(AUP_QUEUE="must-not-be-used") as demo:
        exports, commands = _printed(demo)
        environment = BASE_ENVIRONMENT | exports
        for arguments in commands:
            if arguments == ["run"]:
                run_worker(environment)
            else:
                outputs[shlex.join(arguments)] = _run(arguments, environment)
        directory = Path(exports["XDG_STATE_HOME"]).parent
        assert directory.exists()
        assert "2026-03" in _run(["accepted", "u-900", "--verify"], environment)
    assert not directory.exists()
    dry_run = "replay --reason unknown_policy --dry-run"
    assert "12 selected, 12 would succeed" in outputs[dry_run], "after the policy is published"
    assert "replayed 12 of 12" in outputs["replay --reason unknown_policy"]
    accepted = f"accepted u-42 --verify --export {directory}/u-42.html"
    assert "1 record, 1 verified" in outputs[accepted]
