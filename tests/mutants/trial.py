"""Runs of the tests on a copy of the project, with or without a fault."""

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
# A copy of the project has no servers.
_PYTEST_OPTIONS: Final = (
    "-q", "-x", "--tb=no", "-p", "no:cacheprovider", f"--timeout={_TEST_SECONDS}",
    "-m", "not servers and not hosts",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TrialResult:
    """The result of a mutant.

    Attributes:
        killed_by: The first test that failed, or empty.
        error: Why the tests could not run: the mutant is stale, or pytest failed.
        seconds: Duration.
    """

    mutant: Mutant
    killed_by: str = ""
    error: str = ""
    seconds: float = 0.0

    @property
    def is_killed(self) -> bool:
        """Whether a test detected the fault."""
        return bool(self.killed_by) and not self.error

    @property
    def outcome(self) -> str:
        """The outcome in one line."""
        return self.error or self.killed_by or "SURVIVED"


def try_mutant(mutant: Mutant, tree: Path) -> TrialResult:
    """Apply a mutant to a copy of the project and run the tests that should kill it."""
    started_at = time.monotonic()
    try:
        with applied(mutant, tree):
            killed_by, error = _run(mutant.tests, tree)
    except (StaleMutantError, OSError) as failure:
        killed_by, error = "", str(failure)
    return TrialResult(mutant, killed_by, error, time.monotonic() - started_at)


def run_unchanged(mutants: Sequence[Mutant], tree: Path) -> str:
    """Run the tests of all mutants on the unchanged code; only tests that pass can kill.

    Returns:
        The first failure, or an empty string.
    """
    paths = {word for mutant in mutants for word in _test_paths(mutant.tests)}
    failed, error = _run(sorted(paths), tree, timeout_seconds=10 * _RUN_SECONDS)
    return error or failed


def _test_paths(arguments: Sequence[str]) -> list[str]:
    return [word for word in arguments if word.startswith("tests/")]


def _run(
    arguments: Sequence[str], tree: Path, *, timeout_seconds: float = _RUN_SECONDS
) -> tuple[str, str]:
    """Return the first test that failed, and the error that kept pytest from running."""
    command = [sys.executable, "-m", "pytest", *_PYTEST_OPTIONS, *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            cwd=tree,
            # Compiled files could be taken for those of another mutant of equal size.
            env={**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"(timeout after {timeout_seconds:g} s)", ""
    if done.returncode == 0:
        return "", ""
    failed = _FAILED.search(done.stdout)
    if failed is None:
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        return "", f"pytest exited with {done.returncode}: {' '.join(last)}"
    if done.returncode not in _TESTS_FAILED:
        return "", f"pytest exited with {done.returncode}: {failed[1]}"
    return failed[1], ""
