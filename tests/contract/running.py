"""Servers that the first test that needs them starts, once per test run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, suppress
from multiprocessing.connection import Client, Listener
from threading import Thread
from typing import Any, Final

import pytest

from tests.servers import launch

_LAUNCHES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "moto": launch.moto_in_process,
    "dynamodb_local": launch.dynamodb_local,
    "fauxqs": launch.fauxqs,
    "ministack": launch.ministack,
    "ministack_enforcing": lambda: launch.ministack(enforce_policies=True),
}
# Runs in a thread of the process that uses it.
_NOT_SHARED: Final = "moto"
_INPUT: Final = "address_of_servers"


class RunningServers:
    """Servers started in this test run.

    Args:
        address: Where to ask the first process of the run for its servers; None to start them.
    """

    def __init__(self, address: str | None = None) -> None:
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}
        self._address = address

    def url(self, name: str) -> str:
        """Return the URL of a server, starting it if necessary."""
        if name not in self._urls:
            if self._address is None or name == _NOT_SHARED:
                self._urls[name] = self._stack.enter_context(_LAUNCHES[name]())
            else:
                self._urls[name] = _ask(self._address, name)
        return self._urls[name]

    def share(self) -> str:
        """Start servers for other processes too, and return where they ask for them."""
        if self._address is None:
            listener = self._stack.enter_context(Listener(family="AF_UNIX"))
            self._address = str(listener.address)
            # Only this thread starts servers, because on Linux they exit with it.
            Thread(target=self._answer, args=(listener,), daemon=True).start()
        return self._address

    def close(self) -> None:
        """Stop all servers."""
        self._stack.close()

    def _answer(self, listener: Listener) -> None:
        servers = RunningServers()
        self._stack.callback(servers.close)
        with suppress(OSError):  # the listener was closed
            while True:
                with listener.accept() as connection, suppress(EOFError):  # the process was killed
                    connection.send(_url_or_error(servers, connection.recv()))


def _ask(address: str, name: str) -> str:
    with Client(address, family="AF_UNIX") as connection:
        connection.send(name)
        found = connection.recv()
    if isinstance(found, Exception):
        raise found
    return str(found)


def _url_or_error(servers: RunningServers, name: str) -> str | Exception:
    try:
        return servers.url(name)
    except Exception as error:  # noqa: BLE001 -- raised in the process that asks
        return error


_KEY = pytest.StashKey[RunningServers]()


def running_servers(config: pytest.Config) -> RunningServers:
    """Return the servers of this test run; they stop at its end."""
    if _KEY not in config.stash:
        address = getattr(config, "workerinput", {}).get(_INPUT)
        config.stash[_KEY] = RunningServers(address)
        config.add_cleanup(config.stash[_KEY].close)
    return config.stash[_KEY]


def share_servers(node: Any) -> None:
    """Let a process of pytest-xdist use the servers of the process that starts it."""
    node.workerinput[_INPUT] = running_servers(node.config).share()
