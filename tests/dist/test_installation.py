"""The wheel, installed by pip and pipx into empty environments, without our locks."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT, Document, commands

pytestmark = [pytest.mark.dist, pytest.mark.timeout(600)]

TOOLS: Final = ROOT / ".cache/tools/release/bin"
# Those of the project's own development.
OUR_EXTRAS: Final = {"build", "check", "fuzz", "test"}


def _run(folder: Path, *command: str, code: int = 0) -> str:
    """Run a command outside the checkout, and return its output."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AUP_")}
    done = subprocess.run(  # noqa: S603 - pip, pipx and the installed command
        command,
        cwd=folder,
        env=kept | {"PIPX_HOME": str(folder / "pipx"), "PIPX_BIN_DIR": str(folder / "bin")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def _wheel() -> str:
    (found,) = (ROOT / "dist").glob("*.whl")
    return str(found)


def _extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text()
    (section,) = re.findall(r"^\[project\.optional-dependencies\]\n(.*?)^\[", text, re.M | re.S)
    return set(re.findall(r"^(\w+) = \[", section, re.MULTILINE)) - OUR_EXTRAS


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel and what it requires."""
    folder = tmp_path_factory.mktemp("plain")
    _run(folder, sys.executable, "-m", "venv", str(folder))
    _run(folder, str(folder / "bin/pip"), "install", "--quiet", _wheel())
    return folder


def test_pip_installs_the_sdk_that_aioboto3_pins(environment: Path) -> None:
    assert "Version: 2.25.1\n" in _run(environment, "bin/pip", "show", "aiobotocore")
    assert "No broken requirements" in _run(environment, "bin/pip", "check")


def test_the_service_runs_without_extras(environment: Path) -> None:
    assert '"event_id"' in _run(environment, "bin/aup-worker", "schema")
    assert "vCPU" in _run(environment, "bin/aup-worker", "plan", "--rate", "10000/min")
    message = _run(environment, "bin/aup-worker", "demo", code=2)
    assert "aup-worker[demo]" in message
    assert "Traceback" not in message


def test_the_demo_runs_with_all_extras(environment: Path) -> None:
    extras = f"{_wheel()}[{','.join(sorted(_extras()))}]"
    _run(environment, "bin/pip", "install", "--quiet", extras)
    assert "No broken requirements" in _run(environment, "bin/pip", "check")
    assert "the accounting balances" in _run(environment, "bin/aup-worker", "demo")


def test_pipx_runs_the_demo(tmp_path: Path) -> None:
    spec = f"{_wheel()}[demo]"
    options = ("run", "--no-cache", "--python", sys.executable, "--spec", spec)
    output = _run(tmp_path, str(TOOLS / "pipx"), *options, "aup-worker", "demo")
    assert "the accounting balances" in output


def test_documented_commands_install_the_wheel(tmp_path: Path) -> None:
    """The commands of the document, except `make dist`, which has been run."""
    section = Document("infra/README.md").section("## Python package")
    documented = [each for each in commands(section) if not each.startswith("make ")]
    script = f'PATH="{TOOLS}:$PIPX_BIN_DIR:$PATH"; ' + " && ".join(documented)
    (tmp_path / "dist").symlink_to(ROOT / "dist")
    assert len(documented) == 2
    assert '"event_id"' in _run(tmp_path, "bash", "-c", script)
