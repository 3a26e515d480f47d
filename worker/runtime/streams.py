"""Standard streams that fail in one defined way.

Standard error drops what cannot be written. Standard output raises `OutputError`, which only the
entry point handles; the service drops there too, because nothing that it writes may stop it.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_STDOUT: Final = 1
_STDERR: Final = 2
# The exit code of a command that SIGPIPE ended, as shells report it.
_EXIT_CLOSED: Final = 141
_EXIT_FAILED: Final = 1
_WAIT_SECONDS: Final = 0.25
_ESCAPE: Final = "aup_worker_escape"


class OutputError(Exception):
    """Standard output cannot be written.

    Not an `AUPError`, so that no handler of an expected failure takes it for one of its own.

    Attributes:
        exit_code: 141 if the reader closed the pipe, otherwise 1.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.exit_code = _EXIT_CLOSED if error.errno == errno.EPIPE else _EXIT_FAILED


class _Writer(io.RawIOBase):
    """Unbuffered bytes to a descriptor, which stays open when the writer is closed."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)


class DroppingWriter(_Writer):
    """Writes or drops, and never raises.

    Args:
        descriptor: where to write.

    Attributes:
        wait_seconds: how long to wait for a reader that does not read. What comes after something
            was dropped is not waited for, until a write succeeds. None: no limit.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.wait_seconds: float | None = None
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._is_blocked = False
        self._is_torn = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write or drop it; return its length in either case."""
        content = bytes(data)
        self.write_all(content)
        return len(content)

    def write_all(self, content: bytes) -> bool:
        """Write or drop it.

        Returns:
            Whether all of it was written.
        """
        if not content:
            return True
        with self._lock:
            # The next line must not continue half a line that was written before.
            left = memoryview(b"\n" + content if self._is_torn else content)
            length = len(left)
            try:
                while left and self._is_ready():
                    # POSIX: a pipe that is ready takes so much without blocking.
                    left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
            except OSError:
                pass
            if len(left) < length:
                self._is_torn = bool(left)
            return not left

    def _is_ready(self) -> bool:
        seconds = 0.0 if self._is_blocked else self.wait_seconds
        self._is_blocked = not self._poll.poll(None if seconds is None else 1000 * seconds)
        return not self._is_blocked


class LineWriter:
    """Whole lines to a text stream; a line that cannot be written is dropped.

    Args:
        stream: its buffers are bypassed if `prepare` replaced it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = _dropping(stream)

    def write(self, line: str) -> bool:
        """Write or drop a line.

        Returns:
            Whether it was written.
        """
        text = f"{line}\n"
        if self._writer is not None:
            return self._writer.write_all(text.encode(self._stream.encoding, _ESCAPE))
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: the file is closed, or lacks a character
            return False
        return True


class _OutputWriter(_Writer):
    """Raises `OutputError`, which no library takes for an error of its own."""

    def write(self, data: ReadableBuffer, /) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process made the shared pipe non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                raise OutputError(error) from None


def prepare() -> None:
    """Replace the standard streams; call it before anything else opens a file.

    Missing descriptors are opened on /dev/null: otherwise the next file or socket that is opened
    becomes standard input, output or error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    register_escape()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - as Python itself opens it
    buffer = io.BufferedWriter(_OutputWriter(_STDOUT))
    sys.stdout = _text(buffer, sys.stdout, line_buffering=os.isatty(_STDOUT))
    sys.stderr = _text(DroppingWriter(_STDERR), sys.stderr)


def register_escape() -> None:
    """Register the error handler of the streams, which escapes what an encoding lacks."""
    codecs.register_error(_ESCAPE, _escape)


def never_block() -> None:
    """Drop what stdout and stderr do not take within a moment; only after `prepare`."""
    if _dropping(sys.stderr) is None:
        return
    sys.stdout.flush()
    sys.stdout = _text(DroppingWriter(_STDOUT), sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if (writer := _dropping(stream)) is not None:
            writer.wait_seconds = _WAIT_SECONDS


def run_to_exit(command: Callable[[], None]) -> None:
    """Run a command and flush its output, which decides the exit code if it fails.

    Args:
        command: returns, or exits with a code of its own.

    Raises:
        SystemExit: the command's own, or 141 if the reader of stdout is gone, or 1 if stdout cannot
            be written.
    """
    try:
        try:
            command()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except OutputError as error:
        # The interpreter flushes once more, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        if error.exit_code != _EXIT_CLOSED:
            print(f"aup-worker: {error}", file=sys.stderr)  # noqa: T201 - the error's line
        sys.exit(error.exit_code)


def _text(
    buffer: Any,  # a raw one will do, as for Python's own `-u`; the stubs do not know
    before: TextIO | None,
    *,
    line_buffering: bool = True,
) -> TextIO:
    return io.TextIOWrapper(
        buffer,
        encoding="utf-8" if before is None else before.encoding,
        errors=_ESCAPE,
        line_buffering=line_buffering,
        write_through=isinstance(buffer, DroppingWriter),
    )


def _dropping(stream: TextIO) -> DroppingWriter | None:
    writer = getattr(stream, "buffer", None)
    return writer if isinstance(writer, DroppingWriter) else None


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Escape what an encoding lacks as JSON does, so that JSON stays valid."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{code}" for code in codes), error.end
