"""Environments for programs that are measured with other packages than ours, each from a lock."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.bench.stub.launch import ROOT

CACHE: Final = ROOT / ".cache" / "bench"
_INSTALL_SECONDS: Final = 300.0
_MINORS: Final = range(11, 16)


class NotInstalledError(Exception):
    """A program cannot be installed on this machine, so it is not measured."""


def python_environment(folder: Path, lock: Path, python: str) -> None:
    """Create a virtual environment with the packages of a lock, unless it exists already.

    Args:
        folder: Directory of the environment.
        lock: Pinned packages with their hashes.
        python: Interpreter that the environment uses.

    Raises:
        NotInstalledError: The installation failed.
    """
    stamp, complete = _stamp(lock.read_bytes(), python), folder / ".complete"
    if _is(stamp, complete):
        return
    shutil.rmtree(folder, ignore_errors=True)
    _install("venv", (python, "-m", "venv", str(folder)))
    pip = (str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--quiet")
    # The lock is complete, and may contain what the requirements of a package exclude.
    _install("pip install", (*pip, "install", "--require-hashes", "--no-deps", "-r", str(lock)))
    complete.write_text(stamp)


def node_environment(folder: Path, source: Path) -> None:
    """Copy a Node program and install the packages of its lock, unless that is done already.

    Args:
        folder: Directory of the installation.
        source: Directory of the program with its `package-lock.json`.

    Raises:
        NotInstalledError: The installation failed.
    """
    npm = shutil.which("npm")
    if shutil.which("node") is None or npm is None:
        raise NotInstalledError("node and npm are not installed")
    files = sorted(path for path in source.iterdir() if path.is_file())
    stamp, complete = _stamp(*(path.read_bytes() for path in files)), folder / ".complete"
    if _is(stamp, complete):
        return
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    _install("npm ci", (npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"), folder)
    complete.write_text(stamp)


def find_python(minor: int, *, exactly: bool = False) -> str:
    """Return an interpreter of Python 3 with at least this minor version, or exactly this one.

    Raises:
        NotInstalledError: There is none.
    """
    wrong = f"sys.version_info[:2] {'!=' if exactly else '<'} (3, {minor})"
    for candidate in _pythons():
        check = f"import sys; {wrong} and sys.exit(1); import venv"
        try:
            found = subprocess.run(  # noqa: S603 - interpreters of this machine
                (candidate, "-c", check), capture_output=True, check=False, timeout=30
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found.returncode == 0:
            return candidate
    raise NotInstalledError(f"no Python 3.{minor}{'' if exactly else ' or newer'} was found")


def _pythons() -> Iterator[str]:
    yield sys.executable
    names = [f"python3.{minor}" for minor in _MINORS]
    yield from (path for name in names if (path := shutil.which(name)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from map(str, sorted(versions.glob("3.*/bin/python")))


def _stamp(*parts: bytes | str) -> str:
    contents = [part if isinstance(part, bytes) else part.encode() for part in parts]
    return hashlib.sha256(b"\0".join(contents)).hexdigest()


def _is(stamp: str, complete: Path) -> bool:
    return complete.exists() and complete.read_text() == stamp


def _install(name: str, command: Sequence[str], folder: Path | None = None) -> None:
    try:
        result = subprocess.run(  # noqa: S603 - our own commands
            command,
            cwd=folder,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=_INSTALL_SECONDS,
        )
    except subprocess.TimeoutExpired:
        raise NotInstalledError(f"{name} took more than {_INSTALL_SECONDS:.0f} s") from None
    if result.returncode:
        # The output may name servers, so it is no part of the results.
        sys.stderr.write(result.stderr.decode(errors="replace"))
        raise NotInstalledError(f"{name} failed with exit code {result.returncode}")
