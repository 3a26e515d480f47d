"""The installation of a lock file: progress on a terminal, the output of what fails, uv and pip."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.process.terminal import on_terminal

_PIP = """
import sys
assert sys.argv[-4:-1] == ["--require-hashes", "--no-deps", "-r"], sys.argv
print("Collecting aiohttp==1 (from -r x)")
print("Ignoring uvloop: markers do not match")
print("Requirement already satisfied: boto3==2 in site-packages")
print("Installing collected packages: aiohttp")
sys.exit({code})
"""
_LOCK = "aiohttp==1 \\\n    --hash=sha256:00\nuvloop==3 ; x\nboto3[crt]==2\n"


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    (tmp_path / "x.lock").write_text(_LOCK)
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "__init__.py").touch()
    return tmp_path / "x.lock"


def _command(lock: Path, code: int) -> tuple[list[str], dict[str, str]]:
    (lock.parent / "pip" / "__main__.py").write_text(_PIP.format(code=code))
    program = str(ROOT / "infra" / "tools" / "install.py")
    return [sys.executable, program, str(lock)], os.environ | {"PYTHONPATH": str(lock.parent)}


def test_packages_are_counted_on_a_terminal(lock: Path) -> None:
    command, variables = _command(lock, 0)
    with on_terminal(command, variables) as terminal:
        assert terminal.end() == 0
        shown = terminal.text.replace("\r\n", "\n")
    assert f"installing 3 packages from {lock}" in shown
    for step in ("1 of 3: aiohttp,", "2 of 3: uvloop,", "3 of 3: boto3,", "3 of 3: unpacking,"):
        assert f"\r  {step} 0 s" in shown
    assert shown.rstrip().endswith("installed in 0 s")


def test_without_a_terminal_there_is_a_line_at_the_start_and_at_the_end(lock: Path) -> None:
    command, variables = _command(lock, 0)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"installing 3 packages from {lock}", "installed in 0 s"]


def test_failure_of_pip_is_shown_with_its_output_and_exit_code(lock: Path) -> None:
    command, variables = _command(lock, 3)
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == 3
    assert "Collecting aiohttp==1" in done.stderr
    assert "installed" not in done.stdout


def _uv(lock: Path, code: int) -> str:
    """Return the path of a program that checks its arguments and exits with a code."""
    program = lock.parent / "uv"
    options = f"--quiet --python {sys.executable} --require-hashes --no-deps -r {lock}"
    program.write_text(
        f'#!/bin/sh\n[ "$*" = "pip install {options}" ] || {{ echo "unexpected: $*"; exit 9; }}\n'
        f"echo no route to the index\nexit {code}\n"
    )
    program.chmod(0o755)
    return str(program)


def test_uv_installs_instead_of_pip(lock: Path) -> None:
    command, variables = _command(lock, 3)
    command.append(_uv(lock, 0))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"installing 3 packages from {lock}", "installed in 0 s"]


@pytest.mark.parametrize("code", [0, 3])
def test_pip_installs_if_uv_fails(lock: Path, code: int) -> None:
    command, variables = _command(lock, code)
    command.append(_uv(lock, 2))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert done.returncode == code
    assert done.stderr.startswith("no route to the index\nuv failed; installing with pip\n")
    assert ("Collecting aiohttp==1" in done.stderr) == bool(code)


def test_pip_installs_without_uv(lock: Path) -> None:
    command, variables = _command(lock, 0)
    command.append(str(lock.parent / "missing"))
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)  # noqa: S603 - our own
    assert done.stderr == ""
