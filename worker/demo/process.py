"""The service in a process of its own, observed through its log."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

from worker.errors import AUPError

_TIMEOUT_SECONDS: Final = 45.0


class ServiceProcess:
    """A process running `aup-worker run`, observed through its log.

    Attributes:
        figures: The latest `summary` or `stopped` log line.
        reading: Task that reads the log until the process ends.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._changed = asyncio.Event()
        self.figures: dict[str, Any] = {}
        self._last_line = ""
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stderr is not None  # noqa: S101 - created with a pipe
        async for raw in self._process.stderr:
            self._last_line = raw.decode(errors="replace").strip()
            try:
                line = json.loads(self._last_line)
            except ValueError:
                continue
            if line.get("event") in {"summary", "stopped"}:
                self.figures = line
                self._changed.set()
        self._changed.set()

    async def until(
        self, reached: Callable[[dict[str, Any]], bool], show: Callable[[dict[str, Any]], None]
    ) -> None:
        """Wait until the figures satisfy a condition.

        Args:
            reached: The condition.
            show: Called with the figures of each new summary.

        Raises:
            AUPError: The service ended, or the condition is not satisfied within 45 seconds.
        """
        deadline = time.monotonic() + _TIMEOUT_SECONDS
        while not reached(self.figures):
            if self._process.returncode is not None:
                raise AUPError(f"the service ended unexpectedly: {self._last_line}")
            try:
                async with asyncio.timeout(deadline - time.monotonic()):
                    await self._changed.wait()
            except TimeoutError:
                raise AUPError(
                    f"the service did not finish in {_TIMEOUT_SECONDS:g} s: {self._last_line}"
                ) from None
            self._changed.clear()
            show(self.figures)

    async def stop(self) -> None:
        """Send SIGTERM, wait for the process to end, and read the rest of its log.

        Raises:
            AUPError: The exit code is not 0.
        """
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            exit_code = await self._process.wait()
        await self.reading
        if exit_code:
            raise AUPError(f"the service ended with exit code {exit_code}")


@asynccontextmanager
async def service_process(
    changes: Mapping[str, str] | None = None,
) -> AsyncIterator[ServiceProcess]:
    """Run `aup-worker run` until the end of the block.

    Args:
        changes: Variables that differ from the environment of this process.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "worker",
        "run",
        env={**os.environ, **(changes or {})},
        stderr=asyncio.subprocess.PIPE,
    )
    service = ServiceProcess(process)
    try:
        yield service
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        service.reading.cancel()
        await asyncio.gather(service.reading, return_exceptions=True)
