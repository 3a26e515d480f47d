"""Release 0.1.0 from the history of this repository, the baseline of every ratio of CPU."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import tarfile
from typing import Final

from tests.bench.environments import CACHE, NotInstalledError, python_environment
from tests.bench.stub.launch import ROOT

COMMIT: Final = "617d83749f43b0e0e90b42320113885d7f8fed1b"
SOURCE: Final = CACHE / f"baseline-{COMMIT[:7]}"
_ENVIRONMENT: Final = CACHE / "baseline-environment"
PYTHON: Final = _ENVIRONMENT / "bin" / "python"
_LOCK: Final = "requirements-run.lock"


def install() -> None:
    """Install the release with the packages of its own lock, unless that is done already.

    Raises:
        NotInstalledError: The commit is absent, or its packages cannot be installed.
    """
    if not SOURCE.exists():
        _extract(_archive())
    python_environment(_ENVIRONMENT, SOURCE / _LOCK, sys.executable)


def _archive() -> bytes:
    git = shutil.which("git")
    if git is None:
        raise NotInstalledError("git is not installed")
    command = (git, "-C", str(ROOT), "archive", COMMIT, "worker", _LOCK)
    result = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - git
    if result.returncode:
        raise NotInstalledError(f"commit {COMMIT[:7]} is not in the history of this clone")
    return result.stdout


def _extract(archive: bytes) -> None:
    partial = SOURCE.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(partial, filter="data")
    # Renamed last, so that an interrupted extraction is not taken for a complete one.
    partial.rename(SOURCE)
