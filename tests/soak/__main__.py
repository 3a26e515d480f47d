"""Run workers under kills and faults, then account for every message.

`python -m tests.soak [--seconds N] [--workers N] [--seed N] [--rate N]`, or by the variables
SECONDS, WORKERS, SEED and RATE. Ends with one line of JSON, and with 1 if anything was lost or
doubled.
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
    """Read the options, run, and report."""
    parser = argparse.ArgumentParser(description="Kill workers, and account for every message.")
    for name, default in (("SECONDS", "600"), ("WORKERS", "2"), ("RATE", "25"), ("SEED", "")):
        value = os.environ.get(name) or default or str(secrets.randbelow(1_000_000))
        parser.add_argument(f"--{name.lower()}", type=int, default=int(value))
    parser.add_argument("--keep", type=Path, help="folder for the workers' logs")
    chosen = parser.parse_args()
    print(f"soak: seed {chosen.seed}", file=sys.stderr)  # noqa: T201 - the screen
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="soak-")))
        logs = chosen.keep or folder
        logs.mkdir(parents=True, exist_ok=True)
        soak = Soak(folder, logs, chosen.workers, chosen.rate, chosen.seed)
        figures, holds = report(soak.run(chosen.seconds, stack), chosen.seed)
    print(json.dumps(figures))  # noqa: T201 - the result
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
