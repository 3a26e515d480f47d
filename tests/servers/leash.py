"""Become another program that dies with the process that started it.

Run as a script: `python leash.py PARENT PROGRAM [ARGUMENT…]`. Where the kernel offers no such
leash (macOS), only the kind endings are left: the context managers end what they started.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then replace it by the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have died before the leash was on: then nobody would ever pull it.
    if os.getppid() != parent:
        sys.exit("the process that asked for this server is gone")
    try:
        os.execvp(program[0], program)  # noqa: S606 -- no shell is wanted
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
