"""Processes that process the messages of the stub, measured from outside."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Final

from tests.bench.scenarios import Scenario, Work
from tests.bench.stub.launch import Figures, Stub, die_with_parent
from tests.bench.stub.processes import memory_mb, with_children

_SLICE_SECONDS: Final = 5.0
_STALL_SECONDS: Final = 60.0
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 30.0
_TAIL_BYTES: Final = 3_000
_KEPT_VARIABLES: Final = ("PATH", "HOME", "LANG", "PYTHONPATH")


class RunError(Exception):
    """A run failed, so its figures are invalid."""


@dataclass(frozen=True)
class Mark:
    """Figures read at one point of a run.

    Attributes:
        rss_mb: Resident memory of the largest process, read right after the figures.
    """

    figures: Figures
    rss_mb: float


class Fleet:
    """The processes of one run.

    Args:
        stub: The stub that they call, after a reset.
        scenario: What they run.
        settings: Additional environment variables.
        log: File for their output.
    """

    def __init__(
        self, stub: Stub, scenario: Scenario, settings: dict[str, str], log: IO[bytes]
    ) -> None:
        self._stub = stub
        self._scenario = scenario
        self._log = log
        address = stub.address
        environment = {
            **{name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ},
            "AWS_ENDPOINT_URL": address.tls_url if scenario.tls else address.plain_url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "bench",
            "AWS_SECRET_ACCESS_KEY": "bench",
            "AWS_EC2_METADATA_DISABLED": "true",
            **({"AWS_CA_BUNDLE": address.ca_file} if scenario.tls else {}),
            **settings,
        }
        self.started_at = time.monotonic()
        self._processes = [
            subprocess.Popen(  # noqa: S603 - our own modules
                die_with_parent(*scenario.interpreter, *scenario.module),
                cwd=scenario.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            # The worker starts its further processes itself.
            for _ in range(1 if scenario.is_worker else scenario.processes)
        ]

    def wait(self, *, settled: int = 0, polls: int = 0) -> Mark:
        """Wait for numbers of settled messages and of waiting polls, and read all figures.

        Raises:
            RunError: A process exited, or there was no progress.
        """
        progress_at, before = time.monotonic(), -1
        limit_seconds = _STALL_SECONDS if settled else _START_SECONDS
        while True:
            figures = self._stub.wait(
                seconds=_SLICE_SECONDS, settled=settled, polls=polls, processes=self._process_ids
            )
            if figures.reached:
                return Mark(figures, max(map(memory_mb, self._process_ids)))
            if any(process.poll() is not None for process in self._processes):
                raise RunError(f"{self._scenario.name}: a process exited\n{self._tail()}")
            if figures.settled != before:
                progress_at, before = time.monotonic(), figures.settled
            elif time.monotonic() - progress_at > limit_seconds:
                raise RunError(
                    f"{self._scenario.name}: no progress at {figures.settled} of {settled}\n"
                    f"{figures}\n{self._tail()}"
                )

    def wait_for_first_polls(self) -> Mark:
        """Wait until every process is polling."""
        return self.wait(polls=self._scenario.processes)

    @property
    def _process_ids(self) -> list[int]:
        return [each for process in self._processes for each in with_children(process.pid)]

    def peak_rss_mb(self) -> float:
        """Return the peak memory of the largest process so far."""
        return max(memory_mb(number, "VmHWM") for number in self._process_ids)

    def stop(self) -> None:
        """Stop the processes with SIGTERM, and end their waiting polls meanwhile.

        Raises:
            RunError: one of them ended otherwise than it should.
        """
        for process in self._processes:
            process.terminate()
        # Some of the others do not handle the signal.
        expected = {0} if self._scenario.is_worker else {0, -signal.SIGTERM}
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._processes:
            while process.poll() is None and time.monotonic() < deadline:
                self._stub.release()
                try:
                    process.wait(0.05)
                except subprocess.TimeoutExpired:
                    continue
            if process.poll() not in expected:
                code = process.returncode
                raise RunError(f"{self._scenario.name}: exited with {code}\n{self._tail()}")

    def end(self) -> None:
        """Kill the processes that still run."""
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _tail(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        return self._log.read().decode(errors="replace")


@contextmanager
def fleet(stub: Stub, scenario: Scenario, work: Work) -> Iterator[Fleet]:
    """Run the processes of a scenario on a reset stub until the block ends."""
    stub.reset(work.conditions())
    with tempfile.TemporaryFile() as log:
        running = Fleet(stub, scenario, dict(work.settings), log)
        try:
            yield running
            running.stop()
        finally:
            running.end()
