"""The locks: a current SDK in most of them, the one that pip chooses in another."""

import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Final

import pytest

from tests.documents import ROOT

LOCKS: Final = ROOT / "infra/locks"
# With the packages that aiobotocore 2.25.1 limits.
SDK: Final = {"aiobotocore", "boto3", "botocore", "multidict", "s3transfer", "wrapt"}
PIN: Final = "aioboto3 15.5.0 has requirement aiobotocore[boto3]==2.25.1"


def _pins(lock: Path) -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, pinned in re.findall(r"^([\w.-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE):
        pins.setdefault(name, set()).add(pinned)
    return pins


@pytest.mark.parametrize(
    ("lock", "major"),
    [
        ("requirements.lock", "3."),
        ("requirements-dev.lock", "3."),
        ("requirements-run.lock", "3."),
        ("requirements-pip.lock", "2.25.1"),
    ],
)
def test_locks_have_the_current_sdk_and_pip_the_one_that_aioboto3_pins(
    lock: str, major: str
) -> None:
    (pinned,) = _pins(LOCKS / lock)["aiobotocore"]
    assert pinned.startswith(major)


def test_only_the_sdk_differs_from_what_pip_chooses() -> None:
    ours, of_pip = _pins(LOCKS / "requirements-dev.lock"), _pins(LOCKS / "requirements-pip.lock")
    differing = {name for name, pinned in of_pip.items() if ours[name] != pinned}
    assert differing - SDK == set(), "run make lock ARGS=--upgrade"


def test_the_pin_of_aioboto3_is_the_only_requirement_that_is_not_met() -> None:
    """If this fails because all are met, remove the override: see CONTRIBUTING.md."""
    command = (sys.executable, "-m", "pip", "--disable-pip-version-check", "check")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - pip
    unmet = [line for line in done.stdout.splitlines() if "has requirement" in line]
    if version("aiobotocore") == "2.25.1":
        assert unmet == []
    else:
        assert [line.partition(",")[0] for line in unmet] == [PIN]
