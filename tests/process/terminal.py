"""A terminal, for what is read and pressed there."""

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

from tests.process.workplace import DEADLINE_SECONDS, wait_until

# Keys such as Ctrl-C are for the session that the terminal controls.
_LEAD: Final = (
    "import fcntl, os, sys, termios; os.setsid(); fcntl.ioctl(0, termios.TIOCSCTTY, 0); "
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Terminal:
    """A terminal with a command on it."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.resize(80, 24)
        self.before = termios.tcgetattr(slave)
        self.shown = ""
        self._slave = slave  # kept open: its modes are looked at after the end
        self.process = subprocess.Popen(  # noqa: S603 - our own command
            [sys.executable, "-c", _LEAD, *command],
            env=environment | {"TERM": "xterm"},
            stdin=slave, stdout=slave, stderr=slave,
        )  # fmt: skip

    def resize(self, columns: int, lines: int) -> None:
        """Be of another size."""
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        """Press keys."""
        os.write(self.master, keys.encode())

    def read(self) -> None:
        """Read what was written until now."""
        while select.select([self.master], [], [], 0.05)[0]:
            with suppress(OSError):
                self.shown += os.read(self.master, 65_536).decode(errors="replace")

    def wait_for(self, pattern: str) -> None:
        """Read on until something is shown."""

        def there() -> bool:
            self.read()
            return re.search(pattern, self.text) is not None

        try:
            wait_until(there, pattern)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.shown[-3000:]!r}") from None

    def end(self) -> int:
        """Read on to the end of the command; give its exit code."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while self.process.poll() is None:  # reads on, or it could not write its last
            self.read()
            assert time.monotonic() < deadline
        self.read()
        return self.process.returncode

    @property
    def text(self) -> str:
        """Give what was shown, without its colours and movements."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.shown)

    @property
    def restored(self) -> bool:
        """Say whether its modes are as before the command."""
        return termios.tcgetattr(self._slave) == self.before

    def close(self) -> None:
        """Kill what still runs, and go away."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.master)
        os.close(self._slave)


@contextmanager
def on_terminal(command: list[str], environment: dict[str, str]) -> Iterator[Terminal]:
    """Run a command on a terminal of its own as long as the block lasts."""
    terminal = Terminal(command, environment)
    try:
        yield terminal
    finally:
        terminal.close()
