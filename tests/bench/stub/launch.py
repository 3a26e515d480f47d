"""A stub in a process of its own, and how to steer it."""

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
_LEASH: Final = ROOT / "tests" / "servers" / "leash.py"
_PATIENCE_SECONDS: Final = 10.0


class StubError(Exception):
    """The stub did not start or did not take a command."""


@dataclass(frozen=True)
class Figures:
    """What a stub has counted.

    Attributes:
        at: when, by the monotonic clock of this machine.
        units_weighed: write units of `items_weighed` items, those of every 64th call.
        sqs_request_units: requests as SQS bills them, one for each 64 KiB.
        cpu_seconds: of the processes that were asked for, since they began.
    """

    at: float
    calls: dict[str, int]
    connections: int
    tls_handshakes: int
    offered: int
    handed_out: int
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
    """Steer a running stub.

    Attributes:
        process_id: of the stub.
    """

    address: Address
    process_id: int

    def reset(self, conditions: Conditions) -> Figures:
        """Start anew, with everything at zero."""
        return self._ask("reset", body=json.dumps(asdict(conditions)))

    def figures(self, *, since: int = 0) -> Figures:
        """Read everything; percentiles only of what was settled after the first `since`."""
        return self._ask("figures", since=since)

    def offer(self, messages: int) -> Figures:
        """Add messages."""
        return self._ask("offer", messages=messages)

    def release(self) -> Figures:
        """Answer waiting polls with nothing."""
        return self._ask("release")

    def wait(
        self, *, seconds: float, settled: int = 0, polls: int = 0, processes: Sequence[int] = ()
    ) -> Figures:
        """Wait until so many messages are settled and so many polls wait.

        Args:
            seconds: after which it returns all the same.
            settled: how many messages.
            polls: how many polls.
            processes: whose CPU time is read.

        Returns:
            The figures of that very moment; `reached` is false where the time ran out.
        """
        numbers = ",".join(map(str, processes))
        return self._ask("wait", seconds, settled=settled, polls=polls, processes=numbers)

    def _ask(
        self, command: str, seconds: float = 0.0, *, body: str | None = None, **query: int | str
    ) -> Figures:
        connection = http.client.HTTPConnection(
            HOST, self.address.control_port, timeout=_PATIENCE_SECONDS + seconds
        )
        try:
            path = f"/{command}?{urlencode({**query, 'seconds': seconds})}"
            connection.request("GET" if body is None else "POST", path, body)
            response = connection.getresponse()
            answer: dict[str, Any] = json.loads(response.read())
        finally:
            connection.close()
        if response.status != http.client.OK:
            raise StubError(f"{command}: {answer}")
        return Figures(**answer)


def leashed(*command: str) -> list[str]:
    """Let a program end when this process does."""
    return [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command]


@contextmanager
def running_stub() -> Iterator[Stub]:
    """Run a stub for as long as the block lasts.

    Raises:
        StubError: it did not start.
    """
    process = subprocess.Popen(  # noqa: S603 - our own module
        leashed(sys.executable, "-m", "tests.bench.stub"),
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line:
            raise StubError(f"the stub ended with {process.wait()}")
        yield Stub(Address(**json.loads(line)), process.pid)
    finally:
        process.stdout.close()
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, kindly first."""
    process.terminate()
    try:
        process.wait(_PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
