"""Run one server as a process for as long as a block lasts."""

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

_LEASH = Path(__file__).with_name("leash.py")
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TMPDIR", "JAVA_HOME")
_PAUSE_SECONDS = 0.02
_PATIENCE_SECONDS = 5.0
_TAIL_BYTES = 4_000


class ServerError(Exception):
    """A server did not start, or ended while it was needed."""


class _FaultError(Exception):
    """What went wrong, before the server's output is added."""


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
    """Lend the URL of a server that runs until the block ends.

    On Linux the server also dies with the thread that entered the block, however that ends.

    Args:
        command: The program and its arguments.
        port: Where it was told to listen.
        environment: Its variables, beside the few that every program needs.
        directory: Where it runs.
        scheme: What it speaks, "http" or "https".
        deadline_seconds: How long it may take to answer its first request.

    Raises:
        ServerError: With the end of what the server printed.
    """
    with tempfile.TemporaryFile() as output:
        process = _start(command, output, environment or {}, directory)
        try:
            _wait_for_an_answer(process, f"{scheme}://{HOST}:{port}", deadline_seconds)
            yield f"{scheme}://{HOST}:{port}"
            _still_runs(process)
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
    leashed = [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command]
    return subprocess.Popen(  # noqa: S603 -- the commands are those of launch.py
        leashed,
        cwd=directory,
        env={**kept, **environment},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        # Ctrl-C is for the tests: they still need the server while they clean up.
        start_new_session=True,
    )


def _wait_for_an_answer(
    process: subprocess.Popen[bytes], url: str, deadline_seconds: float
) -> None:
    deadline = time.monotonic() + deadline_seconds
    while not _answers(url):
        # The pause is a wait for the process, so that an early end is noticed at once.
        with suppress(subprocess.TimeoutExpired):
            process.wait(_PAUSE_SECONDS)
        if process.returncode is not None:
            raise _FaultError(f"it ended with {process.returncode} before it answered")
        if time.monotonic() > deadline:
            raise _FaultError(
                f"no answer on port {urlsplit(url).port} within {deadline_seconds:g} s"
            )


def _still_runs(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise _FaultError(f"it ended with {process.returncode} while it was needed")


def _answers(url: str) -> bool:
    address = urlsplit(url)
    connection: http.client.HTTPConnection
    if address.scheme == "https":
        # Whether it answers, not who it is: that is for the clients of the test to find out.
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
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
