"""Start and control of a stub in its own process."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from tests.bench.stub.server import HOST, Address
from tests.bench.stub.tally import Conditions

ROOT: Final = Path(__file__).parents[3]
_DIE_WITH_PARENT: Final = ROOT / "tests" / "servers" / "die_with_parent.py"
_CONTROL_TIMEOUT_SECONDS: Final = 10.0


class StubError(Exception):
    """The stub did not start or rejected a command."""


@dataclass(frozen=True)
class Figures:
    """Counters of a stub.

    Attributes:
        at: Monotonic time of this machine.
        units_weighed: Write units of `items_weighed` items, those of every 64th call.
        sqs_request_units: Requests that SQS would bill, one for each 64 KiB.
        cpu_seconds: CPU time of the requested processes since their start.
    """

    at: float
    calls: dict[str, int]
    connections: int
    tls_handshakes: int
    offered: int
    delivered: int
    settled: int
    settled_twice: int
    items_written: int
    items_weighed: int
    units_weighed: int
    sqs_request_units: int
    first_poll_at: float | None
    last_settled_at: float | None
    stub_cpu_seconds: float
    p50_seconds: float | None
    p99_seconds: float | None
    waiting_polls: int
    reached: bool = True
    cpu_seconds: float = 0.0


@dataclass(frozen=True)
class Stub:
    """Controls a running stub.

    Attributes:
        process_id: Process id of the stub.
    """

    address: Address
    process_id: int

    def reset(self, conditions: Conditions) -> Figures:
        """Reset all counters and conditions."""
        return self._send_command("reset", body=json.dumps(asdict(conditions)))

    def figures(self, *, since: int = 0) -> Figures:
        """Return all figures, with percentiles of messages settled after the first `since`."""
        return self._send_command("figures", since=since)

    def offer(self, messages: int) -> Figures:
        """Add messages."""
        return self._send_command("offer", messages=messages)

    def release(self) -> Figures:
        """End waiting polls with empty responses."""
        return self._send_command("release")

    def wait(
        self, *, seconds: float, settled: int = 0, polls: int = 0, processes: Sequence[int] = ()
    ) -> Figures:
        """Wait for numbers of settled messages and of waiting polls.

        Args:
            seconds: Timeout.
            settled: Number of messages.
            polls: Number of polls.
            processes: Ids of the processes whose CPU time is read.

        Returns:
            The figures of that moment; `reached` is false after a timeout.
        """
        numbers = ",".join(map(str, processes))
        return self._send_command("wait", seconds, settled=settled, polls=polls, processes=numbers)

    def _send_command(
        self, command: str, seconds: float = 0.0, *, body: str | None = None, **query: int | str
    ) -> Figures:
        connection = http.client.HTTPConnection(
            HOST, self.address.control_port, timeout=_CONTROL_TIMEOUT_SECONDS + seconds
        )
        try:
            path = f"/{command}?{urlencode({**query, 'seconds': seconds})}"
            connection.request("GET" if body is None else "POST", path, body)
            response = connection.getresponse()
            document: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise StubError(f"{command}: {document}")
        return Figures(**document)


def die_with_parent(*command: str) -> list[str]:
    """Return a command that ends when this process does."""
    return [sys.executable, "-I", "-S", str(_DIE_WITH_PARENT), str(os.getpid()), *command]


@contextmanager
def running_stub() -> Iterator[Stub]:
    """Run a stub until the block ends.

    Raises:
        StubError: The stub did not start.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module
        die_with_parent(sys.executable, "-m", "tests.bench.stub"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise StubError(f"the stub exited with {process.wait()}")
        yield Stub(Address(**json.loads(line)), process.pid)
    finally:
        process.stdout.close()
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process, and kill it if that has no effect."""
    process.terminate()
    try:
        process.wait(_CONTROL_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
