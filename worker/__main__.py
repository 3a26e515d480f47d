"""Run the command line as `python -m worker`."""

from __future__ import annotations

import os
import signal
import sys

from worker.runtime.streams import prepare, run_to_exit

__all__ = ["main"]


def main() -> None:
    """Run a verb; exit 0 done, 1 partly failed, 2 wrong usage or settings, 141 stdout closed."""
    prepare()
    if os.getpid() == 1:
        # The kernel drops signals that a container's first process has no handler for, and the
        # service sets its own only when everything is loaded.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    run_to_exit(_verb)


def _verb() -> None:
    from worker.cli.app import main as verbs  # noqa: PLC0415 - after streams and signals

    verbs()


if __name__ == "__main__":
    main()
