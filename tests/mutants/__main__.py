"""Try out every mutant: `python -m tests.mutants [-j 2] [WORD ...]`."""

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
from tests.mutants.report import progress, say, summary, table
from tests.mutants.trial import Verdict, run_unchanged, try_out

_ROOT = Path(__file__).parents[2]


def main() -> int:
    """Kill all mutants, or say which live, and return the exit code."""
    arguments = _arguments()
    mutants = [each for each in MUTANTS if all(word in each.name for word in arguments.words)]
    if not mutants:
        say("no mutant has all of these words in its name")
        return 2
    began_at = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        trees = _copies(Path(folder), min(arguments.jobs, len(mutants)))
        say(f"running the tests of {len(mutants)} mutants on the code as it is")
        broken = run_unchanged(mutants, trees[0])
        if broken:
            say(f"without any fault, {broken} fails already: mend that first")
            return 1
        verdicts = list(_tried_out(mutants, trees))
    verdicts.sort(key=lambda verdict: mutants.index(verdict.mutant))
    sys.stdout.write(table(verdicts) + "\n\n")
    sys.stdout.write(summary(verdicts, time.monotonic() - began_at) + "\n")
    return 0 if all(verdict.is_killed for verdict in verdicts) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutants", description=main.__doc__)
    parser.add_argument("-j", "--jobs", type=int, default=2, help="mutants at once (2)")
    parser.add_argument("words", nargs="*", help="only mutants whose names hold these words")
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


def _tried_out(mutants: Sequence[Mutant], trees: Sequence[Path]) -> Iterator[Verdict]:
    """Give verdicts as they come; every tree holds one mutant at a time."""
    free: SimpleQueue[Path] = SimpleQueue()
    for tree in trees:
        free.put(tree)

    def trial(mutant: Mutant) -> Verdict:
        tree = free.get()
        try:
            return try_out(mutant, tree)
        finally:
            free.put(tree)

    with ThreadPoolExecutor(len(trees)) as pool:
        trials = [pool.submit(trial, mutant) for mutant in mutants]
        try:
            for number, done in enumerate(as_completed(trials), start=1):
                progress(number, len(mutants), done.result())
                yield done.result()
        finally:
            pool.shutdown(cancel_futures=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
