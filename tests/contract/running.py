"""Start each server at most once in a whole run of tests, when the first test asks for it."""

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
    """Know the servers that were started, and end them."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._urls: dict[str, str] = {}

    def url(self, name: str) -> str:
        """Return the URL of a server, starting it if need be."""
        if name not in self._urls:
            self._urls[name] = self._stack.enter_context(_LAUNCHES[name]())
        return self._urls[name]

    def close(self) -> None:
        """End them all."""
        self._stack.close()


_KEY = pytest.StashKey[RunningServers]()


def running_servers(config: pytest.Config) -> RunningServers:
    """Return the servers of this run; they end with it."""
    if _KEY not in config.stash:
        config.stash[_KEY] = RunningServers()
        config.add_cleanup(config.stash[_KEY].close)
    return config.stash[_KEY]
