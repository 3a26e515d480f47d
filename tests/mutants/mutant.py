"""One deliberate fault, and a copy of the project in which it is put to the test."""

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
    """The text that a mutant changes is not there, or not once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A fault that some test must notice.

    Attributes:
        name: what is wrong, in a few words.
        file: where, from the project's root.
        old: text that stands there exactly once.
        new: what stands there instead.
        tests: arguments of pytest, as narrow as can be: files, node ids, `-k`.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def changed(self, text: str) -> str:
        """Give the file's text with the fault in it.

        Raises:
            StaleMutantError: the code has moved on; so must the mutant.
        """
        count = text.count(self.old)
        if count != 1:
            raise StaleMutantError(f"stale: its text is {count} times in {self.file}")
        return text.replace(self.old, self.new)


@contextmanager
def applied(mutant: Mutant, tree: Path) -> Iterator[None]:
    """Put the fault into a copy of the project, and take it out again."""
    file = tree / mutant.file
    before, stamps = file.read_text("utf-8"), file.stat()
    file.write_text(mutant.changed(before), "utf-8")
    # Older than any source: no compiled file can pass for that of this text.
    os.utime(file, (1, 1))
    try:
        yield
    finally:
        file.write_text(before, "utf-8")
        os.utime(file, ns=(stamps.st_atime_ns, stamps.st_mtime_ns))


def copy_project(root: Path, tree: Path) -> None:
    """Copy what the tests need: the files that git tracks, or would."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(  # noqa: S603 - our own command
            listing, cwd=root, check=True, capture_output=True
        )
        names = sorted(name.decode() for name in listed.stdout.split(b"\0") if name)
    except (OSError, subprocess.CalledProcessError):
        names = _found(root)
    for name in names:
        source, target = root / name, tree / name
        if source.is_file():  # not what was removed and is tracked still
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


def _found(root: Path) -> list[str]:
    """List the files where there is no repository, as in an unpacked archive."""
    files = [
        file
        for name in _PROJECT
        for file in ((root / name).rglob("*") if (root / name).is_dir() else [root / name])
    ]
    relative = [file.relative_to(root) for file in files]
    return sorted(str(file) for file in relative if not {*file.parts} & {*_NO_SOURCE})
