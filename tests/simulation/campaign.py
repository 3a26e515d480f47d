"""Runs of many seeds on all cores."""

from __future__ import annotations

import gc
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context

from rich.console import Console
from rich.progress import track

from tests.simulation.scenario import run_seed

_FAILURES_SHOWN = 5
_CHUNK = 20


def run_seeds(seeds: range) -> list[tuple[int, dict[str, float] | str]]:
    """Run some seeds; return the report or the error of each."""
    outcomes: list[tuple[int, dict[str, float] | str]] = []
    for seed in seeds:
        try:
            outcomes.append((seed, asdict(run_seed(seed))))
        except Exception as error:  # noqa: BLE001 - reported with its seed
            outcomes.append((seed, f"{type(error).__name__}: {error}"))
        gc.collect()
    return outcomes


def _collect_between_seeds() -> None:
    """Collect garbage only when asked to, because a tenth of a run would go into collections."""
    gc.freeze()
    gc.disable()


def _outcomes(first: int, count: int) -> Iterator[tuple[int, dict[str, float] | str]]:
    chunks = [
        range(start, min(start + _CHUNK, first + count))
        for start in range(first, first + count, _CHUNK)
    ]
    with ProcessPoolExecutor(
        mp_context=get_context("spawn"), initializer=_collect_between_seeds
    ) as pool:
        for outcomes in pool.map(run_seeds, chunks):
            yield from outcomes


def campaign(count: int, first: int | None = None) -> int:
    """Run many seeds with progress on stderr; return the exit code."""
    if first is None:
        first = random.SystemRandom().randrange(10**9)
    began_at = time.monotonic()
    totals: Counter[str] = Counter()
    failures = 0
    console = Console(stderr=True)
    progress = track(
        _outcomes(first, count),
        "running seeds",
        total=count,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    for seed, outcome in progress:
        if isinstance(outcome, str):
            failures += 1
            if failures <= _FAILURES_SHOWN:
                console.print(f"SEED={seed} make simulate  # {outcome[:300]}", markup=False)
        else:
            totals.update({name: int(number) for name, number in outcome.items()})
    summary = ", ".join(f"{name} {number:,}" for name, number in sorted(totals.items()))
    seconds = time.monotonic() - began_at
    print(f"{count:,} seeds from {first}: {failures} failed, in {seconds:.0f} s ({summary})")  # noqa: T201 - the result
    return 1 if failures else 0
