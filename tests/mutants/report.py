"""Reports of the results of mutants."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.mutants.trial import TrialResult


def log(text: str) -> None:
    """Print progress to stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def progress(number: int, count: int, result: TrialResult) -> None:
    """Print the result of one mutant."""
    mark = "killed" if result.is_killed else result.outcome
    log(f"[{number:{len(str(count))}}/{count}] {mark}: {result.mutant.name}")


def table(results: Sequence[TrialResult]) -> str:
    """Return a table with one row for each mutant."""
    rows = [("mutant", "killed by", "seconds")]
    rows += [(each.mutant.name, _short(each), f"{each.seconds:.1f}") for each in results]
    width = max(len(name) for name, _, _ in rows)
    middle = max(len(outcome) for _, outcome, _ in rows)
    lines = [f"{name:{width}}  {outcome:{middle}}  {took:>7}" for name, outcome, took in rows]
    lines.insert(1, f"{'-' * width}  {'-' * middle}  {'-' * 7}")
    return "\n".join(lines)


def summary(results: Sequence[TrialResult], seconds: float) -> str:
    """Return the last line."""
    killed = sum(each.is_killed for each in results)
    others = len(results) - killed
    return (
        f"{len(results)} mutants: {killed} killed, {others} survived or failed, in {seconds:.0f} s"
    )


def _short(result: TrialResult) -> str:
    if not result.is_killed:
        return result.outcome
    return result.killed_by.removeprefix("tests/").partition("[")[0]
