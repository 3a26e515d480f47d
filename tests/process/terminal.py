"""A pseudoterminal for tests of interactive output and keys."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from tests.process.environment import DEADLINE_SECONDS, wait_until

# Ctrl-C and similar keys reach only a session that has this controlling terminal.
_NEW_SESSION: Final = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A pseudoterminal that runs a command."""

    def __init__(self, command: list[str], variables: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(slave)
        self.shown = ""
        self._slave = slave  # kept open to read its modes after the command has exited
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", _NEW_SESSION, *command],
            env=variables | {"TERM": "xterm"},
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip

    def resize(self, columns: int, lines: int) -> None:
        """Change the size of the terminal."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Send keys to the command."""
        os.write(self.master, keys.encode())

    def read(self) -> None:
        """Read the output available now."""
        while select.select([self.master], [], [], 0.05)[0]:
            with suppress(OSError):
                self.shown += os.read(self.master, 65_536).decode(errors="replace")

    def wait_for(self, pattern: str) -> None:
        """Read output until it matches a pattern."""

        def there() -> bool:
            self.read()
            return re.search(pattern, self.text) is not None

        try:
            wait_until(there, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown[-3000:]!r}") from None

    def end(self) -> int:
        """Read output until the command exits, and return its exit code."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while (
            self.process.poll() is None
        ):  # keep reading, so that the command can write its last output
            self.read()
            assert time.monotonic() < deadline
        self.read()
        return self.process.returncode

    @property
    def text(self) -> str:
        """The output without escape sequences."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)

    @property
    def restored(self) -> bool:
        """Whether the terminal modes are as they were before the command."""
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        """Kill the command if it still runs, and close the terminal."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@contextmanager
def on_terminal(command: list[str], variables: dict[str, str]) -> Iterator[Terminal]:
    """Run a command on its own terminal until the block ends."""
    terminal = Terminal(command, variables)
    try:
        yield terminal
    finally:
        terminal.close()
