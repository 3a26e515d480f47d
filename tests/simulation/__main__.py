"""Run many seeds on all cores, or trace one seed: `python -m tests.simulation`.

`SEEDS=n` sets the number of seeds (10,000), `FIRST=n` the first one (random), `SEED=n` runs one.
"""

from __future__ import annotations

import os
import sys

from tests.simulation.campaign import campaign
from tests.simulation.scenario import run_seed
from tests.simulation.trace import Trace


def main() -> int:
    """Run the seeds that the environment selects and return the exit code."""
    one = os.environ.get("SEED")
    if one is not None:
        print(run_seed(int(one), Trace(print)))  # noqa: T201 - the result
        return 0
    first = os.environ.get("FIRST")
    return campaign(int(os.environ.get("SEEDS") or 10_000), int(first) if first else None)


if __name__ == "__main__":
    sys.exit(main())
