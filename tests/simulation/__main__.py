"""Play many seeds on all cores, or one with its story: `python -m tests.simulation`.

`SEEDS=n` says how many (10,000), `FIRST=n` where they begin (anywhere), `SEED=n` plays one only.
"""

from __future__ import annotations

import os
import sys

from tests.simulation.campaign import campaign
from tests.simulation.scenario import play
from tests.simulation.trace import Trace


def main() -> int:
    """Play what the environment asks for."""
    one = os.environ.get("SEED")
    if one is not None:
        print(play(int(one), Trace(print)))  # noqa: T201 - the story is what was asked for
        return 0
    first = os.environ.get("FIRST")
    return campaign(int(os.environ.get("SEEDS") or 10_000), int(first) if first else None)


if __name__ == "__main__":
    sys.exit(main())
