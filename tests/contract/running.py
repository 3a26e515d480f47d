"""Servers that the first test that needs them starts, once per test run."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack

import pytest

from tests.servers import launch

_LAUNCHES: dict[str, Callable[[], AbstractContextManager[str]]] = {
    "moto": launch.moto_in_process,
    "dynamodb_local": launch.dynamodb_local,
    "fauxqs": launch.fauxqs,
    "ministack": launch.ministack,
    "ministack_enforcing": lambda: launch.ministack(enforce_policies=True),
}


class RunningServers:
    """Servers started in this test run."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        """Return the URL of a server, starting it if necessary."""
        if name not in self._urls:
            self._urls[name] = self._stack.enter_context(_LAUNCHES[name]())
        return self._urls[name]

    def close(self) -> None:
        """Stop all servers."""
        self._stack.close()


_KEY = pytest.StashKey[RunningServers]()


def running_servers(config: pytest.Config) -> RunningServers:
    """Return the servers of this test run; they stop at its end."""
    if _KEY not in config.stash:
        config.stash[_KEY] = RunningServers()
        config.add_cleanup(config.stash[_KEY].close)
    return config.stash[_KEY]
