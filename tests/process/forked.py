"""Verbs that run in forks of a process that has already imported them.

Starting the installed command takes most of a second of CPU, nearly all of it for imports. A fork
has its own memory, environment, descriptors, signals and exit code like any other process, without
that cost. What depends on the start itself (interpreter options, locale, missing descriptors) is
tested with the installed command.
"""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import pkgutil
import signal
import subprocess
import sys
import tempfile
import termios
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from multiprocessing import process
from multiprocessing.connection import Connection
from subprocess import CompletedProcess, TimeoutExpired
from types import TracebackType
from typing import IO, Final, Self

import worker.cli

# Prefixes of variables that the interpreter reads only when it starts.
AT_START: Final = ("PYTHON", "LC_", "LANG")
_STARTING: Final = threading.Lock()
FORK_SERVER: Final = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(
    [
        "pytest",
        __name__,
        *(each.name for each in pkgutil.walk_packages(worker.cli.__path__, "worker.cli.")),
        "worker.__main__",
        "worker.processes.parent",
        "worker.service",
        "tests.process.preloaded",
    ]
)


def run(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: bytes,
    timeout_seconds: float,
    constants: Mapping[str, float],
) -> CompletedProcess[bytes]:
    """Run a verb and wait for it to exit.

    Args:
        arguments: The verb and its options.
        environment: The complete environment.
        stdin: Content of stdin.
        timeout_seconds: Time limit.
        constants: Values that replace those of constants, by `module:name`.

    Raises:
        TimeoutExpired: The verb did not exit in time and was killed.
    """
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        files[0].write(stdin)
        files[0].seek(0)
        with Fork(arguments, environment, *files, constants=constants) as fork:
            code = fork.wait(timeout_seconds)
        for file in files[1:]:
            file.seek(0)
        return CompletedProcess(list(arguments), code, files[1].read(), files[2].read())


class Fork:
    """A verb that runs until the block ends, with the interface of `subprocess.Popen`.

    Args:
        arguments: The verb and its options.
        environment: The complete environment.
        stdin: File or descriptor; none for an empty one.
        stdout: File, descriptor or `subprocess.PIPE`; none to discard the output.
        stderr: The same.
        constants: Values that replace those of constants, by `module:name`.
        has_terminal: Whether stdin is a terminal that is to control it.

    Attributes:
        stdout: The pipe to read from, if any.
        stderr: The same.
        pid: Process id.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        stdin: IO[bytes] | int | None = None,
        stdout: IO[bytes] | int | None = None,
        stderr: IO[bytes] | int | None = None,
        *,
        constants: Mapping[str, float] | None = None,
        has_terminal: bool = False,
    ) -> None:
        self.stdout: IO[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        descriptors = [_descriptor(stdin, os.O_RDONLY)]
        for name, stream in (("stdout", stdout), ("stderr", stderr)):
            if stream == subprocess.PIPE:
                reader, writer = os.pipe()
                setattr(self, name, os.fdopen(reader, "rb"))
                descriptors.append(writer)
            else:
                descriptors.append(_descriptor(stream, os.O_WRONLY))
        connections = [Connection(descriptor) for descriptor in descriptors]
        self._process = FORK_SERVER.Process(
            target=_verb,
            args=(
                list(arguments),
                dict(environment),
                connections,
                dict(constants or {}),
                has_terminal,
            ),
        )
        with _STARTING:
            self._process.start()
            # Otherwise the start of another one, in another thread, would take the exit code.
            process._children.discard(self._process)  # type: ignore[attr-defined] # not in the stub
        for connection in connections:
            connection.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return the exit code, or None while it runs."""
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        """The exit code, or None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for it to exit, and return the exit code.

        Raises:
            TimeoutExpired: It did not exit in time.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired("aup-worker", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has exited."""
        if self.poll() is None:
            with suppress(ProcessLookupError):  # the fork server sees the exit first
                os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it, unless it has exited."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.kill()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self._process.join()


def _descriptor(stream: IO[bytes] | int | None, flags: int) -> int:
    """Return a descriptor of its own for a stream."""
    if stream is None:
        return os.open(os.devnull, flags)
    return os.dup(stream if isinstance(stream, int) else stream.fileno())


def _verb(
    arguments: list[str],
    environment: dict[str, str],
    streams: list[Connection],
    constants: dict[str, float],
    has_terminal: bool,
) -> None:
    # Imported in the fork, because the fork server preloads it and the test process need not.
    from worker.__main__ import main  # noqa: PLC0415

    attach(environment, streams)
    if has_terminal:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    for path, value in constants.items():
        module, _, name = path.partition(":")
        assert isinstance(getattr(sys.modules[module], name), float)
        setattr(sys.modules[module], name, value)
    sys.argv = ["aup-worker", *arguments]
    main()


def attach(environment: Mapping[str, str], streams: Sequence[Connection]) -> None:
    """Give this process the environment and the standard streams of a new one."""
    os.environ.clear()
    os.environ.update(environment)
    for descriptor, stream in enumerate(streams):
        os.dup2(stream.fileno(), descriptor)
        stream.close()
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - opened as Python opens it
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 - the same
