"""Contents and metadata of the files that `make dist` has built from the commit."""

import email
import re
import shutil
import subprocess
import tarfile
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tests.documents import ROOT

pytestmark = pytest.mark.dist


@pytest.fixture(scope="module")
def tracked() -> set[str]:
    """The files of the package in the commit."""
    git = shutil.which("git") or "git"
    command = (git, "ls-tree", "-r", "--name-only", "HEAD", "worker")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603 - git
    return set(done.stdout.splitlines())


def _only(pattern: str) -> Path:
    (found,) = (ROOT / "dist").glob(pattern)
    return found


def test_the_wheel_contains_the_package_and_nothing_else(tracked: set[str]) -> None:
    names = {
        name
        for name in zipfile.ZipFile(_only("*.whl")).namelist()
        if not re.match(r"aup_worker-[^/]*\.dist-info/", name)
    }
    assert names == {name for name in tracked if not name.endswith(".md")}


def test_the_sdist_contains_the_package_and_its_documents(tracked: set[str]) -> None:
    with tarfile.open(_only("*.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    documents = {"CHANGELOG.md", "LICENSE", "README.md"}
    assert names == tracked | documents | {"pyproject.toml", "PKG-INFO", ".gitignore"}


def _metadata() -> Message:
    wheel = zipfile.ZipFile(_only("*.whl"))
    (name,) = (each for each in wheel.namelist() if each.endswith("/METADATA"))
    return email.message_from_bytes(wheel.read(name))


def test_metadata_allows_both_releases_of_the_sdk() -> None:
    assert "aiobotocore<4,>=2.25.1" in _metadata().get_all("Requires-Dist", [])


def test_metadata_names_the_licence_and_keywords() -> None:
    metadata = _metadata()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"sqs", "dynamodb"} <= set(metadata["Keywords"].split(","))
