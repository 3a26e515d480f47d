"""Execute a program that is killed when the process that started it exits.

Run as a script: `python die_with_parent.py PARENT PROGRAM [ARGUMENT…]`. On kernels without this
feature (macOS), only the context managers terminate what they started.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Request SIGKILL on exit of the parent, then execute the program."""
    parent, program = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The parent may have exited before the request, and then no signal would come.
    if os.getppid() != parent:
        sys.exit("the process that started this server has exited")
    try:
        os.execvp(program[0], program)  # noqa: S606 -- no shell is needed
    except OSError as error:
        sys.exit(f"{program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
