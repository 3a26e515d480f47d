"""Command that tries every mutant: `python -m tests.mutants [-j 2] [WORD ...]`."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue

from tests.mutants.catalogue import MUTANTS
from tests.mutants.mutant import Mutant, copy_project
from tests.mutants.report import log, progress, summary, table
from tests.mutants.trial import TrialResult, run_unchanged, try_mutant

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Try all mutants, report which survive, and return the exit code."""
    arguments = _arguments()
    mutants = [each for each in MUTANTS if all(word in each.name for word in arguments.words)]
    if not mutants:
        log("no mutant name contains all of these words")
        return 2
    started_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = _copies(Path(folder), min(arguments.jobs, len(mutants)))
        log(f"running the tests of {len(mutants)} mutants on the unchanged code")
        broken = run_unchanged(mutants, trees[0])
        if broken:
            log(f"{broken} fails on the unchanged code; fix it first")
            return 1
        results = list(_try_all(mutants, trees))
    results.sort(key=lambda result: mutants.index(result.mutant))
    sys.stdout.write(table(results) + "\n\n")
    sys.stdout.write(summary(results, time.monotonic() - started_at) + "\n")
    return 0 if all(result.is_killed for result in results) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=main.__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="Mutants to run in parallel (2).")
    parser.add_argument("words", nargs="*", help="Only mutants whose names contain these words.")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("-j: must be 1 or more")
    return arguments


def _copies(folder: Path, count: int) -> list[Path]:
    first = folder / "0"
    copy_project(_ROOT, first)
    others = [folder / str(number) for number in range(1, count)]
    for tree in others:
        shutil.copytree(first, tree)
    return [first, *others]


def _try_all(mutants: Sequence[Mutant], trees: Sequence[Path]) -> Iterator[TrialResult]:
    """Yield results as they complete; each tree contains one mutant at a time."""
    free_trees: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free_trees.put(tree)

    def trial(mutant: Mutant) -> TrialResult:
        tree = free_trees.get()
        try:
            return try_mutant(mutant, tree)
        finally:
            free_trees.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        futures = [pool.submit(trial, mutant) for mutant in mutants]
        try:
            for number, done in enumerate(as_completed(futures), start=1):
                progress(number, len(mutants), done.result())
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        log("interrupted")
        sys.exit(130)
