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

from tests.process.environment import COMMAND, DEADLINE_SECONDS, wait_until
from tests.process.forked import Fork

# Ctrl-C and similar keys reach only a session that has this controlling terminal.
_NEW_SESSION: Final = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A pseudoterminal that runs a command; the installed one in a fork.

    Args:
        command: The program and its arguments.
        variables: The environment, without `TERM`.
        columns: Width of the terminal.
        stdout: Descriptor of stdout; none for the terminal.
    """

    def __init__(
        self,
        command: list[str],
        variables: dict[str, str],
        *,
        columns: int = 80,
        stdout: int | None = None,
    ) -> None:
        self.master, slave = pty.openpty()
        self.resize(columns, 24)
        self.before = termios.tcgetattr(slave)
        self.shown = ""
        self._slave = slave  # kept open to read its modes after the command has exited
        environment = variables | {"TERM": "xterm"}
        output = slave if stdout is None else stdout
        self.process: Fork | subprocess.Popen[bytes]
        if command[0] == COMMAND:
            self.process = Fork(command[1:], environment, slave, output, slave, has_terminal=True)
        else:
            self.process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-c", _NEW_SESSION, *command],
                env=environment, stdin=slave, stdout=output, stderr=slave,
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
        return self.process.wait()

    @property
    def text(self) -> str:
        """The output without escape sequences; a move to the top of the screen starts a line."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown.replace("\x1b[H", "\n"))

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
def on_terminal(
    command: list[str], variables: dict[str, str], *, columns: int = 80, stdout: int | None = None
) -> Iterator[Terminal]:
    """Run a command on its own terminal until the block ends; see `Terminal`."""
    terminal = Terminal(command, variables, columns=columns, stdout=stdout)
    try:
        yield terminal
    finally:
        terminal.close()
