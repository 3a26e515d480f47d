"""Run the command line as `python -m worker`."""

from __future__ import annotations

import os
import signal
import sys

from worker.runtime.garbage_collection import collect_less_often
from worker.runtime.streams import prepare, run_to_exit

__all__ = ["main"]


def main() -> None:
    """Run a verb.

    Exit codes: 0 success, 1 partial failure, 2 invalid usage or settings, 141 stdout closed.
    """
    collect_less_often()
    prepare()
    if os.getpid() == 1:
        # The kernel ignores signals for which the first process of a container has no handler, and
        # the service installs its handlers only after all imports.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    run_to_exit(_verb)


def _verb() -> None:
    from worker.cli.app import main as run_verb  # noqa: PLC0415 - after preparing streams and signals

    run_verb()


if __name__ == "__main__":
    main()
