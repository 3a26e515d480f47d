"""Standard streams with defined behaviour on errors.

Standard error drops output that cannot be written. Standard output raises `OutputError`, which only
the entry point handles. In the service standard output drops as well, so that a full or closed pipe
cannot stop it.
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
# Exit code that shells report for a command ended by SIGPIPE.
_EXIT_CLOSED: Final = 141
_EXIT_FAILED: Final = 1
_WAIT_SECONDS: Final = 0.25
_ESCAPE: Final = "aup_worker_escape"


class OutputError(Exception):
    """Standard output cannot be written.

    Not an `AUPError`, so that handlers of expected failures do not catch it.

    Attributes:
        exit_code: 141 if the reader closed the pipe, otherwise 1.
    """

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.exit_code = _EXIT_CLOSED if error.errno == errno.EPIPE else _EXIT_FAILED


class _Writer(io.RawIOBase):
    """Unbuffered binary writer; its descriptor stays open when it is closed."""

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
    """Writer that drops output instead of raising an exception.

    Args:
        descriptor: File descriptor to write to.

    Attributes:
        wait_seconds: Maximum wait for a reader that does not read; None for no limit. After a
            dropped write there is no wait until a write succeeds.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor)
        self.wait_seconds: float | None = None
        self._lock = threading.Lock()
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)
        self._is_blocked = False
        self._is_incomplete = False

    def write(self, data: ReadableBuffer, /) -> int:
        """Write or drop the data; return its length in either case."""
        content = bytes(data)
        self.write_all(content)
        return len(content)

    def write_all(self, content: bytes) -> bool:
        """Write or drop the content.

        Returns:
            Whether it was written completely.
        """
        if not content:
            return True
        with self._lock:
            # A line must not continue an incomplete one.
            left = memoryview(b"\n" + content if self._is_incomplete else content)
            length = len(left)
            try:
                while left and self._is_ready():
                    # POSIX: a pipe that is ready accepts PIPE_BUF bytes without blocking.
                    left = left[os.write(self._descriptor, left[: select.PIPE_BUF]) :]
            except OSError:
                pass
            if len(left) < length:
                self._is_incomplete = bool(left)
            return not left

    def _is_ready(self) -> bool:
        seconds = 0.0 if self._is_blocked else self.wait_seconds
        self._is_blocked = not self._poll.poll(None if seconds is None else 1000 * seconds)
        return not self._is_blocked


class LineWriter:
    """Writer of complete lines to a text stream; lines that cannot be written are dropped.

    Args:
        stream: Output; its buffers are bypassed if `prepare` replaced it.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._writer = _dropping(stream)

    def write(self, line: str) -> bool:
        """Write or drop a line.

        Returns:
            Whether it was written.
        """
        return self.write_text(f"{line}\n")

    def write_text(self, text: str) -> bool:
        """Write or drop a text that need not be a line.

        Returns:
            Whether it was written.
        """
        if self._writer is not None:
            return self._writer.write_all(text.encode(self._stream.encoding, _ESCAPE))
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):  # ValueError: closed, or not encodable
            return False
        return True


class _OutputWriter(_Writer):
    """Writer that raises `OutputError`, which libraries do not catch as they do `OSError`."""

    def write(self, data: ReadableBuffer, /) -> int:
        while True:
            try:
                return os.write(self._descriptor, data)
            except BlockingIOError:  # another process set the shared pipe to non-blocking
                select.select([], [self._descriptor], [])
            except OSError as error:
                raise OutputError(error) from None


def prepare() -> None:
    """Replace the standard streams. Call this before anything else opens a file.

    Missing descriptors are opened on /dev/null; otherwise the next file or socket would become
    standard input, output or error.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    register_escape()
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 - stays open, as in Python itself
    buffer = io.BufferedWriter(_OutputWriter(_STDOUT))
    sys.stdout = _text(buffer, sys.stdout, line_buffering=os.isatty(_STDOUT))
    sys.stderr = _text(DroppingWriter(_STDERR), sys.stderr)


def register_escape() -> None:
    """Register the error handler that escapes characters missing in an encoding."""
    codecs.register_error(_ESCAPE, _escape)


def never_block() -> None:
    """Drop output that stdout or stderr does not accept in time; requires `prepare`."""
    if _dropping(sys.stderr) is None:
        return
    sys.stdout.flush()
    sys.stdout = _text(DroppingWriter(_STDOUT), sys.stdout)
    for stream in (sys.stdout, sys.stderr):
        if (writer := _dropping(stream)) is not None:
            writer.wait_seconds = _WAIT_SECONDS


def run_to_exit(command: Callable[[], None]) -> None:
    """Run a command and flush its output; a failed flush determines the exit code.

    Args:
        command: Returns, or raises `SystemExit`.

    Raises:
        SystemExit: That of the command, 141 if the reader closed stdout, or 1 if stdout cannot be
            written.
    """
    try:
        try:
            command()
        except SystemExit:
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except OutputError as error:
        # The interpreter flushes once more at exit, which must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), _STDOUT)
        if error.exit_code != _EXIT_CLOSED:
            print(f"aup-worker: {error}", file=sys.stderr)  # noqa: T201 - the error message
        sys.exit(error.exit_code)


def _text(
    buffer: Any,  # also unbuffered, as with Python's `-u`; the stubs do not allow that
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
    """Escape unencodable characters as JSON does, so that JSON stays valid."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    codes = (units[at : at + 2].hex() for at in range(0, len(units), 2))
    return "".join(f"\\u{code}" for code in codes), error.end
