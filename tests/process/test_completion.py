"""Completion, installed as a user does it, and Tab pressed."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.process.terminal import on_terminal
from tests.process.workplace import COMMAND, DEADLINE_SECONDS


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    path = f"{Path(COMMAND).parent}{os.pathsep}{os.environ['PATH']}"
    # Neither region nor credentials nor an endpoint: whatever asked AWS would fail.
    return {"PATH": path, "HOME": str(tmp_path), "LANG": "C.UTF-8"}


def _run(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own command
        [COMMAND, *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=DEADLINE_SECONDS,
    )  # fmt: skip


def test_the_running_shell_is_found(environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "--norc", "-c", "aup-worker --show-completion; true"],  # noqa: S607 - from PATH
        env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert "complete_bash" in done.stdout


def test_tab_completes_verbs_options_and_values_in_bash(environment: dict[str, str]) -> None:
    assert _run(environment, "--install-completion", "bash").returncode == 0
    with on_terminal(["bash", "-i"], environment | {"PS1": "$ "}) as terminal:
        terminal.wait_for(r"[$#] ")
        terminal.press("aup-worker repl\t")
        terminal.wait_for("aup-worker replay ")
        terminal.press("--dry\t")
        terminal.wait_for("replay --dry-run ")
        terminal.press("--reason unk\t")
        terminal.wait_for("--dry-run --reason unknown_policy ")


@pytest.mark.skipif(not shutil.which("zsh"), reason="there is no zsh here")
def test_the_first_tab_completes_in_zsh(environment: dict[str, str]) -> None:
    assert _run(environment, "--install-completion", "zsh").returncode == 0
    with on_terminal(["zsh", "-i"], environment) as terminal:
        terminal.wait_for(r"[%#] ")
        terminal.press("aup-worker repl\t")
        terminal.wait_for("aup-worker replay ")


@pytest.mark.skipif(not shutil.which("fish"), reason="there is no fish here")
def test_fish_finds_the_verb(environment: dict[str, str]) -> None:
    assert _run(environment, "--install-completion", "fish").returncode == 0
    done = subprocess.run(
        ["fish", "-c", 'complete -C "aup-worker repl"'],  # noqa: S607 - from PATH
        env=environment, capture_output=True, text=True, check=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.stdout.startswith("replay\t")
