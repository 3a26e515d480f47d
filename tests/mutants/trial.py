"""Run the tests on a copy of the project, with a fault in it or without."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant, StaleMutantError, applied

_TEST_SECONDS: Final = 20
_RUN_SECONDS: Final = 90
_FAILED: Final = re.compile(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", re.MULTILINE)
_TESTS_FAILED: Final = (1,)
# A copy of the project has no servers of its own.
_QUIET: Final = (
    "-q", "-x", "--tb=no", "-p", "no:cacheprovider", f"--timeout={_TEST_SECONDS}",
    "-m", "not servers and not hosts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        killed_by: the first test that failed; empty if none did.
        trouble: why there was no trial: the mutant is stale, or pytest could not run.
        seconds: how long it took.
    """

    mutant: Mutant
    killed_by: str = ""
    trouble: str = ""
    seconds: float = 0.0

    @property
    def is_killed(self) -> bool:
        """Say whether a test noticed the fault."""
        return bool(self.killed_by) and not self.trouble

    @property
    def end(self) -> str:
        """Say in one line how it ended."""
        return self.trouble or self.killed_by or "SURVIVED"


def try_out(mutant: Mutant, tree: Path) -> Verdict:
    """Apply a mutant to a copy of the project and run the tests that should kill it."""
    began_at = time.monotonic()
    try:
        with applied(mutant, tree):
            killed_by, trouble = _run(mutant.tests, tree)
    except (StaleMutantError, OSError) as error:
        killed_by, trouble = "", str(error)
    return Verdict(mutant, killed_by, trouble, time.monotonic() - began_at)


def run_unchanged(mutants: Sequence[Mutant], tree: Path) -> str:
    """Run all of the mutants' tests without a fault: only tests that pass can kill.

    Returns:
        What is wrong; nothing, if all is well.
    """
    places = {word for mutant in mutants for word in _places(mutant.tests)}
    failed, trouble = _run(sorted(places), tree, timeout_seconds=10 * _RUN_SECONDS)
    return trouble or failed


def _places(arguments: Sequence[str]) -> list[str]:
    return [word for word in arguments if word.startswith("tests/")]


def _run(
    arguments: Sequence[str], tree: Path, *, timeout_seconds: float = _RUN_SECONDS
) -> tuple[str, str]:
    """Give the first test that failed, and what else went wrong."""
    command = [sys.executable, "-m", "pytest", *_QUIET, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            cwd=tree,
            # No compiled file: it would pass for that of another mutant of equal size.
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"(no end within {timeout_seconds:g} s)", ""
    if done.returncode == 0:
        return "", ""
    failed = _FAILED.search(done.stdout)
    if failed is None:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        return "", f"pytest ended with {done.returncode}: {' '.join(last)}"
    if done.returncode not in _TESTS_FAILED:
        return "", f"pytest ended with {done.returncode}: {failed[1]}"
    return failed[1], ""
