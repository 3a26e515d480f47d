"""The parent: starts the children, restarts those that died, and stops all of them together."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process, create_subprocess_exec
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog

from worker.errors import AUPError, GaveUpError, SettingsError
from worker.observability.background import background_tasks
from worker.observability.summary import stopped_immediately, summaries
from worker.processes.channel import Channel
from worker.processes.environment import child_environment
from worker.processes.snapshot import Snapshot
from worker.processes.status import ProcessesStatus
from worker.runtime.logs import count_drops_in
from worker.runtime.loop_watchdog import EventLoopWatchdog
from worker.runtime.signals import on_signals
from worker.runtime.stopping import unless_stopped
from worker.settings import Settings

_log: Final = structlog.get_logger()
# Not `-m`: that would import `worker` from the current directory. Not a fork: the parent has an
# event loop and a thread. A server that forks would save 0.5 s of CPU per start and 25 MB per
# child, and would be one more process to watch.
_PROGRAM: Final = (
    "import os, sys; sys.path[:] = sys.argv.pop(1).split(os.pathsep); "
    "from worker.processes.child import main; main()"
)
RESTART_BASE_SECONDS: Final = 1.0
RESTART_CAP_SECONDS: Final = 30.0
# A process that ran this long has not died because of its start.
_STABLE_SECONDS: Final = 60.0
_MAX_DEATHS: Final = 5
# After the channel has ended, or a second signal.
_EXIT_SECONDS: Final = 5.0
# Part of the time from AUP_DRAIN_TIMEOUT_SECONDS to AUP_STOP_TIMEOUT_SECONDS; a child uses 0.8.
_GRACE: Final = 0.9


async def run_processes(settings: Settings, count: int) -> None:
    """Run the service in several processes until SIGTERM or SIGINT, like `worker.service.serve`.

    Raises:
        SettingsError: Queues or tables do not fit the settings.
        AUPError: It cannot continue, or a second signal stopped it during the drain.
    """
    stopping = asyncio.Event()
    watchdog = EventLoopWatchdog(settings.stall_seconds)
    clock = asyncio.get_running_loop().time
    status = ProcessesStatus(settings, stopping, watchdog, count, clock)
    count_drops_in(status.own.events)
    parent = Parent(status, count)
    with on_signals(parent.drain, parent.stop):
        async with watchdog, background_tasks(status):
            await parent.run()


@dataclass(slots=True)
class _Child:
    """A running child.

    Attributes:
        process: Its process.
        channel: Channel to it.
        failure: Why it gave up; None unless it said so.
    """

    process: Process
    channel: Channel
    failure: AUPError | None = None

    def kill(self) -> None:
        """Send SIGKILL."""
        with suppress(ProcessLookupError):
            self.process.kill()


@dataclass(frozen=True, slots=True)
class _End:
    """End of a child.

    Attributes:
        how: Words that follow its name.
        is_clean: Whether it drained, or had not started to.
        held: Messages that it held.
        failure: Why it gave up; None unless it said so.
    """

    how: str
    is_clean: bool = False
    held: int = 0
    failure: AUPError | None = None


class Parent:
    """Parent of the processes of the service.

    Args:
        status: status of the service.
        count: number of children.
    """

    def __init__(self, status: ProcessesStatus, count: int) -> None:
        self._status = status
        self._settings = status.settings
        self._stopping = status.stopping
        self._count = count
        self._environment = child_environment(status.settings, count, os.environ)
        self._clock = asyncio.get_running_loop().time
        self._children: dict[int, _Child] = {}
        self._checked = asyncio.Event()
        self._max_attempts: int | None = None
        self._stopped = asyncio.Event()
        self._failure: AUPError | None = None

    def drain(self, number: signal.Signals) -> None:
        """Drain all children."""
        self._stopping.set()
        _log.info("stopping", signal=number.name, hint="a second signal stops immediately")

    def stop(self, number: signal.Signals) -> None:
        """Stop all children at once."""
        if not self._stopped.is_set():
            self._stopped.set()
            _log.warning("stopping immediately", signal=number.name)

    async def run(self) -> None:
        """Keep the children running until the service is to stop, and wait for their ends.

        Raises:
            AUPError: The service cannot continue, or did not drain.
        """
        numbers = range(1, self._count + 1)
        keeping = asyncio.gather(*(self._keep(number) for number in numbers))
        stopping = asyncio.create_task(self._stop_when_asked())
        try:
            if await unless_stopped(self._stopping, self._checked.wait()):
                _log.info("processes started", processes=self._count)
                async with summaries(self._status):
                    await keeping
            else:
                await keeping
        finally:
            stopping.cancel()
            for child in self._children.values():
                child.kill()
            await asyncio.gather(keeping, stopping, return_exceptions=True)
        if self._stopped.is_set():
            raise GaveUpError(stopped_immediately(self._status))
        if self._failure is not None:
            raise self._failure

    async def _keep(self, number: int) -> None:
        """Start a child, and restart it with backoff when it has died, until the service stops."""
        deaths = 0
        while not self._stopping.is_set():
            started_at = self._clock()
            end = await self._run_child(number)
            if self._stopping.is_set():
                if not end.is_clean:
                    self._give_up(end.failure or GaveUpError(f"process {number} {end.how}"))
                return
            deaths = 1 if self._clock() - started_at >= _STABLE_SECONDS else deaths + 1
            if error := self._reason_to_give_up(number, end, deaths):
                self._give_up(error)
                return
            seconds = min(RESTART_CAP_SECONDS, RESTART_BASE_SECONDS * 2.0 ** (deaths - 1))
            _log.error(
                "process died",
                died=number,
                how=end.how,
                why=None if end.failure is None else str(end.failure),
                abandoned=end.held,
                restart_seconds=seconds,
            )
            await unless_stopped(self._stopping, asyncio.sleep(seconds))

    def _reason_to_give_up(self, number: int, end: _End, deaths: int) -> AUPError | None:
        """Return the error that ends the service, if a death does.

        What one child alone suffers from, a restart may cure. If a child gave up and no other is
        ready, the cause concerns all of them, such as denied access.
        """
        others = set(range(1, self._count + 1)) - {number}
        if isinstance(end.failure, SettingsError):
            return end.failure
        if end.failure is not None and not any(map(self._status.is_ready, others)):
            return end.failure
        if deaths >= _MAX_DEATHS:
            return GaveUpError(f"process {number} died {deaths} times in a row: it {end.how}")
        return None

    def _give_up(self, error: AUPError) -> None:
        """Drain all children, then end with this error; later errors are ignored."""
        if self._failure is None:
            self._failure = error
            self._stopping.set()

    async def _run_child(self, number: int) -> _End:
        """Start a child and follow it to its end."""
        try:
            child = await self._start(number)
        except OSError as error:
            return _End(f"could not be started: {error.strerror}")
        self._children[number] = child
        self._status.started(number, child.process.pid)
        if self._max_attempts is not None or number == 1:
            # The first child checks queues and tables; until then the others wait.
            child.channel.send({"max_attempts": self._max_attempts})
        if self._stopping.is_set():
            child.channel.send({"drain": True})
        await self._follow(number, child)
        try:
            async with asyncio.timeout(_EXIT_SECONDS):
                code = await child.process.wait()
        except TimeoutError:
            child.kill()
            code = await child.process.wait()
        await child.channel.aclose()
        del self._children[number]
        return self._end(number, child, code)

    def _end(self, number: int, child: _Child, code: int) -> _End:
        is_signal = code < 0
        how = f"was killed by {_signal_name(-code)}" if is_signal else f"exited with code {code}"
        # A signal that stops the service ends a child that has not started yet.
        unstarted = -code in {signal.SIGTERM, signal.SIGINT} and not self._status.has_begun(number)
        held = self._status.ended(number, abandons=not self._stopped.is_set())
        return _End(how, not code or unstarted, held, child.failure)

    async def _start(self, number: int) -> _Child:
        end, of_child = socket.socketpair()
        with of_child:
            fields = json.dumps({"process": number, **self._status.identity})
            try:
                process = await create_subprocess_exec(
                    sys.executable, "-P", "-c", _PROGRAM,
                    os.pathsep.join(sys.path), str(of_child.fileno()), fields,
                    stdin=DEVNULL,
                    env=self._environment,
                    pass_fds=[of_child.fileno()],
                    start_new_session=True,  # a terminal signals only the parent
                )  # fmt: skip
            except OSError:
                end.close()
                raise
        return _Child(process, await Channel.open(end))

    async def _follow(self, number: int, child: _Child) -> None:
        """Read the messages of a child to its end; kill it if it does not respond.

        Its own watchdog acts before. Two periods, because after a suspension of all processes the
        first one may have passed although messages are waiting.
        """
        silent = 0
        while True:
            try:
                async with asyncio.timeout(0.75 * self._settings.stall_seconds):
                    message = await child.channel.receive()
            except TimeoutError:
                silent += 1
                if silent > 1:
                    _log.error("process does not respond, killing it", killed=number)
                    child.kill()
                continue
            if message is None:
                return
            silent = 0
            self._handle(number, child, message)

    def _handle(self, number: int, child: _Child, message: dict[str, Any]) -> None:
        if "snapshot" in message:
            self._status.update(number, Snapshot.from_json(message["snapshot"]))
        if "failure" in message:
            problems = message["failure"]["problems"]
            is_settings = message["failure"]["is_settings"]
            child.failure = SettingsError(problems) if is_settings else GaveUpError(problems[0])
        if "checked" in message:
            self._max_attempts = message["checked"]
            self._checked.set()
            self._broadcast({"max_attempts": self._max_attempts})

    def _broadcast(self, message: dict[str, Any]) -> None:
        for child in self._children.values():
            child.channel.send(message)

    async def _stop_when_asked(self) -> None:
        """Drain all children when the service stops; kill those that do not end in time."""
        await self._stopping.wait()
        self._broadcast({"drain": True})
        drain_seconds = self._settings.drain_timeout_seconds
        grace_seconds = self._settings.stop_timeout_seconds - drain_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(drain_seconds + _GRACE * grace_seconds):
                await self._stopped.wait()
        if self._stopped.is_set():
            self._broadcast({"stop": True})
            await asyncio.sleep(_EXIT_SECONDS)
        for number, child in self._children.items():
            _log.error("process did not stop in time, killing it", killed=number)
            child.kill()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
