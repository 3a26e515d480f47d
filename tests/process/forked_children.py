"""Children of the service in forks of the process that has already imported them.

A fork of the service would have its event loop and its thread; so the fork server forks, and the
service gets what it would get of `create_subprocess_exec`. Children that are started as programs
are tested with the installed command.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, Final

from tests.process.forked import FORK_SERVER, attach
from worker.processes import child, parent

_PARENT: Final[Any] = parent
_FORK_SERVER: Final[Any] = forkserver._forkserver


def fork_children() -> None:
    """Make the service fork its children instead of starting programs."""
    _PARENT.create_subprocess_exec = _start
    # The server that has forked this process is running, although it has not started it.
    _FORK_SERVER.ensure_running = lambda: None


class _Child:
    """A forked child, with what the service uses of `asyncio.subprocess.Process`."""

    def __init__(self, process: Any) -> None:
        self.pid: int = process.pid
        self.kill = process.kill
        self._process = process

    async def wait(self) -> int:
        """Wait for it to exit, and return the exit code."""
        loop, exited = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._process.sentinel, exited.set)
        try:
            await exited.wait()
        finally:
            loop.remove_reader(self._process.sentinel)
        code: int = self._process.exitcode
        return code


async def _start(
    *command: str, env: Mapping[str, str], pass_fds: Sequence[int], **_: object
) -> _Child:
    (channel,) = pass_fds
    descriptors = [os.open(os.devnull, os.O_RDONLY), os.dup(1), os.dup(2), os.dup(channel)]
    connections = [Connection(descriptor) for descriptor in descriptors]
    process = FORK_SERVER.Process(target=_run, args=(dict(env), connections, command[-1]))
    process.start()
    for connection in connections:
        connection.close()
    return _Child(process)


def _run(environment: dict[str, str], connections: list[Connection], fields: str) -> None:
    *streams, channel = connections
    os.setsid()
    attach(environment, streams)
    sys.argv = ["-c", str(os.dup(channel.fileno())), fields]
    channel.close()
    child.main()
