"""Shell completion, installed as a user installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.process.environment import COMMAND, DEADLINE_SECONDS
from tests.process.terminal import on_terminal


@pytest.fixture
def variables(tmp_path: Path) -> dict[str, str]:
    path = f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"
    # Without region, credentials and endpoint, any call to AWS would fail.
    return {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}


def _run(variables: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *arguments],
        env=variables, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS,
    )  # fmt: skip


def test_running_shell_is_detected(variables: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", "aup-worker --show-completion; true"],  # noqa: S607 - from PATH
        env=variables, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert "complete_bash" in done.stdout


def test_tab_completes_verbs_options_and_values_in_bash(variables: dict[str, str]) -> None:
    assert _run(variables, "--install-completion", "bash").returncode == 0
    with on_terminal(["bash", "-i"], variables | {"PS1": "$ "}) as terminal:
        terminal.wait_for(r"[$#] ")
        terminal.press("aup-worker repl\t")
        terminal.wait_for("aup-worker replay ")
        terminal.press("--dry\t")
        terminal.wait_for("replay --dry-run ")
        terminal.press("--reason unk\t")
        terminal.wait_for("--dry-run --reason unknown_policy ")


def test_tab_completes_a_file_and_a_nested_verb_in_bash(
    variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "u-42.json").touch()
    assert _run(variables, "--install-completion", "bash").returncode == 0
    with on_terminal(["bash", "-i"], variables | {"PS1": "$ "}) as terminal:
        terminal.wait_for(r"[$#] ")
        terminal.press(f"aup-worker verify {tmp_path}/u-\t")
        terminal.wait_for("u-42.json ")
        terminal.press("\x15aup-worker policy dif\t")
        terminal.wait_for("aup-worker policy diff ")


def test_tab_completes_connection_options_before_and_after_the_verb(
    variables: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "prod.env").touch()
    assert _run(variables, "--install-completion", "bash").returncode == 0
    with on_terminal(["bash", "-i"], variables | {"PS1": "$ "}) as terminal:
        terminal.wait_for(r"[$#] ")
        terminal.press("aup-worker --dead\t")
        terminal.wait_for("aup-worker --dead-letter-queue ")
        terminal.press(f"q status --env-f\t{tmp_path}/pro\t")
        terminal.wait_for("--env-file .*/prod.env ")


@pytest.mark.skipif(not shutil.which("zsh"), reason="zsh is not installed")
def test_first_tab_completes_in_zsh(variables: dict[str, str]) -> None:
    assert _run(variables, "--install-completion", "zsh").returncode == 0
    with on_terminal(["zsh", "-i"], variables) as terminal:
        terminal.wait_for(r"[%#] ")
        terminal.press("aup-worker repl\t")
        terminal.wait_for("aup-worker replay ")


@pytest.mark.skipif(not shutil.which("fish"), reason="fish is not installed")
def test_fish_completes_a_verb(variables: dict[str, str]) -> None:
    assert _run(variables, "--install-completion", "fish").returncode == 0
    done = subprocess.run(
        ["fish", "-c", 'complete -C "aup-worker repl"'],  # noqa: S607 - from PATH
        env=variables, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.stdout.startswith("replay\t")
