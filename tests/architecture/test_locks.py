"""The locks: a current SDK in most of them, the one that pip chooses in another."""

import re
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path
from typing import Final

import pytest
from packaging.requirements import Requirement

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


def _unmet() -> list[str]:
    """Return the requirements of installed packages that other versions than theirs meet."""
    marker_environment = {"extra": ""}
    unmet = []
    for each in distributions():
        for required in map(Requirement, each.requires or ()):
            if required.marker is None or required.marker.evaluate(marker_environment):
                found = _installed(required.name)
                if found is not None and not required.specifier.contains(found, prereleases=True):
                    unmet.append(f"{each.name} {each.version} has requirement {required}")
    return unmet


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def test_the_pin_of_aioboto3_is_the_only_requirement_that_is_not_met() -> None:
    """If this fails because all are met, remove the override: see CONTRIBUTING.md."""
    assert _unmet() == ([] if version("aiobotocore") == "2.25.1" else [PIN])
