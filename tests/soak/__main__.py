"""Run workers under kills and faults, then check every message.

`python -m tests.soak [--seconds N] [--workers N] [--seed N] [--rate N]`, or the variables SECONDS,
WORKERS, SEED and RATE. Prints one line of JSON; the exit code is 1 if a message was lost,
duplicated or altered.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from tests.soak.run import Soak, report


def main() -> int:
    """Parse the options, run the soak test and return the exit code."""
    parser = argparse.ArgumentParser(description="Kill workers and check every message.")
    for name, default in (("SECONDS", "600"), ("WORKERS", "2"), ("RATE", "25"), ("SEED", "")):
        value = os.environ.get(name) or default or str(secrets.randbelow(1_000_000))
        parser.add_argument(f"--{name.lower()}", type=int, default=int(value))
    parser.add_argument("--keep", type=Path, help="folder for the workers' logs")
    chosen = parser.parse_args()
    print(f"soak: seed {chosen.seed}", file=sys.stderr)  # noqa: T201 - progress
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        logs = chosen.keep or folder
        logs.mkdir(parents=True, exist_ok=True)
        soak = Soak(folder, logs, chosen.workers, chosen.rate, chosen.seed)
        figures, is_ok = report(soak.run(chosen.seconds, stack), chosen.seed)
    print(json.dumps(figures))  # noqa: T201 - the result
    return 0 if is_ok else 1


if __name__ == "__main__":
    sys.exit(main())
