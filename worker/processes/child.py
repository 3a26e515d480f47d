"""A child: the pipeline, without what the parent does for all processes together."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import structlog

from worker.aws.sqs import Queue
from worker.errors import AUPError, SettingsError
from worker.observability.background import traced
from worker.observability.service_status import PipelineStatus
from worker.operations.doctor.preflight import check
from worker.processes.channel import Channel
from worker.processes.snapshot import Snapshot
from worker.repository import AUPRepository
from worker.runtime import logs
from worker.runtime.event_loop import run_on_loop
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.runtime.signals import on_signals
from worker.runtime.streams import never_block, prepare, run_to_exit
from worker.service import log_tracing_problem, open_pipeline
from worker.settings import Settings, load

_log: Final = structlog.get_logger()
_SNAPSHOT_SECONDS: Final = 1.0


def main() -> None:
    """Run a child until its parent stops it or ends.

    Arguments: the descriptor of the channel, and the fields of each log line as JSON.
    Exit codes: 0 clean drain, 1 drain incomplete or fatal error; the parent learns the error.
    """
    prepare()
    run_to_exit(_run)


def _run() -> None:
    descriptor, fields = sys.argv[1:]
    settings = load()
    never_block()
    logs.configure(settings.log_level, settings.log_format)
    logs.bind(json.loads(fields))
    sys.exit(run_on_loop(_serve(settings, socket.socket(fileno=int(descriptor)))))


async def _serve(settings: Settings, end: socket.socket) -> int:
    """Run the pipeline and return the exit code."""
    end.set_inheritable(False)
    child = _Child(settings, await Channel.open(end))

    def drain(_: signal.Signals) -> None:
        child.stopping.set()

    # A process manager may send its signal to every process; only the parent stops at once.
    with on_signals(drain, drain):
        async with child.connected():
            return await child.run()


class _Child:
    """The pipeline under the control of a parent.

    Args:
        settings: settings of this child.
        channel: channel to the parent.
    """

    def __init__(self, settings: Settings, channel: Channel) -> None:
        loop = asyncio.get_running_loop()
        self.stopping = asyncio.Event()
        self._channel = channel
        self._watchdog = EventLoopWatchdog(settings.stall_seconds)
        self._status = PipelineStatus(settings, self.stopping, self._watchdog, loop.time)
        self._max_attempts: asyncio.Future[int | None] = loop.create_future()
        self._main = asyncio.current_task()
        self._is_stopped = False

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[None]:
        """Follow the parent and send it snapshots until the block ends, then a last one."""
        tasks = [asyncio.create_task(each) for each in (self._follow(), self._report())]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._send_snapshot()
            await self._channel.aclose()

    async def run(self) -> int:
        """Run the pipeline until it has drained, and return the exit code."""
        try:
            async with (
                self._watchdog,
                traced(log_tracing_problem) as tracing,
                open_pipeline(self._status, tracing, check=self._check) as pipeline,
            ):
                if pipeline is not None:
                    await pipeline.run()
        except asyncio.CancelledError:
            if not self._is_stopped or self._main is None or self._main.uncancel():
                raise
            return 1
        except AUPError as error:
            problems = error.problems if isinstance(error, SettingsError) else [str(error)]
            failure = {"problems": problems, "is_settings": isinstance(error, SettingsError)}
            if not self._channel.send({"failure": failure}):
                _log.error("gave up", problems=problems)
            return 1
        return 0

    async def _check(
        self, settings: Settings, source: Queue, dead_letters: Queue, repository: AUPRepository
    ) -> Settings:
        """Check the settings, or wait until another child has done that."""
        max_attempts = await asyncio.shield(self._max_attempts)
        if max_attempts is not None:
            return settings.model_copy(update={"max_attempts": max_attempts})
        fitted = await check(settings, source, dead_letters, repository)
        self._channel.send({"checked": fitted.max_attempts})
        return fitted

    async def _follow(self) -> None:
        """Obey the parent, and drain when it has ended."""
        while (message := await self._channel.receive()) is not None:
            if "max_attempts" in message and not self._max_attempts.done():
                self._max_attempts.set_result(message["max_attempts"])
            if message.get("drain"):
                self.stopping.set()
            if message.get("stop") and self._main is not None and not self._is_stopped:
                self._is_stopped = True
                self.stopping.set()
                self._main.cancel()
        _log.warning("parent process ended, draining")
        self.stopping.set()

    async def _report(self) -> None:
        while True:
            self._send_snapshot()
            await asyncio.sleep(_SNAPSHOT_SECONDS)

    def _send_snapshot(self) -> None:
        self._channel.send({"snapshot": Snapshot.of(self._status).to_json()})
