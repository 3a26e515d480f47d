"""Tell how the mutants ended."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from tests.mutants.trial import Verdict


def say(text: str) -> None:
    """Tell how far it is, on stderr."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def progress(number: int, count: int, verdict: Verdict) -> None:
    """Tell of one mutant."""
    mark = "killed" if verdict.is_killed else verdict.end
    say(f"[{number:{len(str(count))}}/{count}] {mark}: {verdict.mutant.name}")


def table(verdicts: Sequence[Verdict]) -> str:
    """Write one row for each mutant."""
    rows = [("mutant", "killed by", "seconds")]
    rows += [(each.mutant.name, _short(each), f"{each.seconds:.1f}") for each in verdicts]
    width = max(len(name) for name, _, _ in rows)
    middle = max(len(end) for _, end, _ in rows)
    lines = [f"{name:{width}}  {end:{middle}}  {took:>7}" for name, end, took in rows]
    lines.insert(1, f"{'-' * width}  {'-' * middle}  {'-' * 7}")
    return "\n".join(lines)


def summary(verdicts: Sequence[Verdict], seconds: float) -> str:
    """Write the last line."""
    killed = sum(each.is_killed for each in verdicts)
    others = len(verdicts) - killed
    return f"{len(verdicts)} mutants: {killed} killed, {others} not, in {seconds:.0f} s"


def _short(verdict: Verdict) -> str:
    if not verdict.is_killed:
        return verdict.end
    return verdict.killed_by.removeprefix("tests/").partition("[")[0]
