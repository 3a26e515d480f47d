"""Fuzz the worker: `BODIES=100000 SEED=1 python -m tests.fuzz`."""

from __future__ import annotations

import os
import secrets
import sys

from tests.fuzz.campaign import campaign


def main() -> int:
    """Process many bodies and return the exit code."""
    try:
        count = int(os.environ.get("BODIES") or 100_000)
        seed = int(os.environ.get("SEED") or secrets.randbelow(10**9))
    except ValueError as error:
        sys.stderr.write(f"BODIES and SEED must be whole numbers: {error}\n")
        return 2
    try:
        report = campaign(seed, count, lambda done: _show_progress(done, count))
    except AssertionError as error:
        sys.stderr.write(f"\n{ascii(str(error)) if not str(error).isascii() else error}\n")
        sys.stderr.write(f"BODIES={count} SEED={seed} python -m tests.fuzz reproduces it\n")
        return 1
    sys.stderr.write("\n")
    sys.stdout.write(f"{report.line()}\n")
    return 0


def _show_progress(done: int, count: int) -> None:
    sys.stderr.write(f"\r{done} of {count} bodies")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        sys.exit(130)
