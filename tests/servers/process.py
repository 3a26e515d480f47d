"""A server that runs as a process until a block ends."""

import http.client
import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

HOST = "127.0.0.1"

_DIE_WITH_PARENT = Path(__file__).with_name("die_with_parent.py")
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME")
_PAUSE_SECONDS = 0.02
_STOP_SECONDS = 5.0
_TAIL_BYTES = 4_000


class ServerError(Exception):
    """A server did not start, or exited while it was needed."""


class _FaultError(Exception):
    """An error without the output of the server."""


@contextmanager
def serving(
    command: Sequence[str],
    port: int,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
    scheme: str = "http",
    deadline_seconds: float = 30.0,
) -> Iterator[str]:
    """Run a server until the block ends, and yield its URL.

    On Linux the server is also killed when the thread that entered the block exits.

    Args:
        command: The program and its arguments.
        port: The port that it listens on.
        environment: Additional environment variables.
        directory: Working directory.
        scheme: "http" or "https".
        deadline_seconds: Time limit for the first response.

    Raises:
        ServerError: The server failed; the message ends with its last output.
    """
    with tempfile.TemporaryFile() as output:
        process = _start(command, output, environment or {}, directory)
        try:
            _wait_for_response(process, f"{scheme}://{HOST}:{port}", deadline_seconds)
            yield f"{scheme}://{HOST}:{port}"
            _check_running(process)
        except _FaultError as fault:
            raise ServerError(f"{' '.join(command)}: {fault}\n{_tail(output)}") from None
        finally:
            _end(process)


def _start(
    command: Sequence[str],
    output: IO[bytes],
    environment: Mapping[str, str],
    directory: Path | None,
) -> subprocess.Popen[bytes]:
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    die_with_parent = [
        sys.executable,
        "-I",
        "-S",
        str(_DIE_WITH_PARENT),
        str(os.getpid()),
        *command,
    ]
    return subprocess.Popen(  # noqa: S603 -- the commands are those of launch.py
        die_with_parent,
        cwd=directory,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Ctrl-C must not reach the server, which the tests need while they clean up.
        start_new_session=True,
    )


def _wait_for_response(process: subprocess.Popen[bytes], url: str, deadline_seconds: float) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not _responds(url):
        # Waiting for the process instead of sleeping detects an early exit at once.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PAUSE_SECONDS)
        if process.returncode is not None:
            raise _FaultError(f"exited with {process.returncode} before its first response")
        if time.monotonic() > deadline:
            raise _FaultError(
                f"no response on port {urlsplit(url).port} within {deadline_seconds:g} s"
            )


def _check_running(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise _FaultError(f"exited with {process.returncode} while it was needed")


def _responds(url: str) -> bool:
    address = urlsplit(url)
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        # The certificate does not matter here; the clients of the test verify it.
        unchecked = ssl._create_unverified_context()  # noqa: S323 -- see above
        connection = http.client.HTTPSConnection(HOST, address.port, timeout=1, context=unchecked)
    else:
        connection = http.client.HTTPConnection(HOST, address.port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _tail(output: IO[bytes]) -> str:
    end = output.seek(0, os.SEEK_END)
    output.seek(max(0, end - _TAIL_BYTES))
    return output.read().decode(errors="replace").strip()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
