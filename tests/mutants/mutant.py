"""Deliberate faults, and copies of the project to try them in."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROJECT = ("worker", "tests", "pyproject.toml", "README.md")
_NO_SOURCE = ("__pycache__", ".cache", ".hypothesis")


class StaleMutantError(Exception):
    """The text that a mutant replaces does not occur exactly once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault that a test must detect.

    Attributes:
        name: Short description of the fault.
        file: Path relative to the project root.
        old: Text that occurs exactly once in the file.
        new: Text that replaces it.
        tests: Arguments of pytest, as narrow as possible: files, node ids, `-k`.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply_to(self, text: str) -> str:
        """Return the text of the file with the fault.

        Raises:
            StaleMutantError: The code has changed, so the mutant must be updated.
        """
        count = text.count(self.old)
        if count != 1:
            raise StaleMutantError(f"stale: its text occurs {count} times in {self.file}")
        return text.replace(self.old, self.new)


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Apply a mutant to a copy of the project, and restore the file at the end of the block."""
    file = tree / mutant.file
    before, stat = file.read_text("utf-8"), file.stat()
    file.write_text(mutant.apply_to(before), "utf-8")
    # Older than any source, so that no compiled file is taken for that of this text.
    os.utime(file, (1, 1))
    try:
        yield
    finally:
        file.write_text(before, "utf-8")
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def copy_project(root: Path, tree: Path) -> None:
    """Copy the files that git tracks or would track."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(  # noqa: S603 - our own command
            listing, cwd=root, check=True, capture_output=True
        )
        names = sorted(name.decode() for name in listed.stdout.split(b"\0") if name)
    except (OSError, subprocess.CalledProcessError):
        names = _list_files(root)
    for name in names:
        source, target = root / name, tree / name
        if source.is_file():  # a removed file may still be tracked
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _list_files(root: Path) -> list[str]:
    """Return the files of a project without a repository, such as an unpacked archive."""
    files = [
        file
        for name in _PROJECT
        for file in ((root / name).rglob("*") if (root / name).is_dir() else [root / name])
    ]
    relative = [file.relative_to(root) for file in files]
    return sorted(str(file) for file in relative if not {*file.parts} & {*_NO_SOURCE})
