"""Servers of a soak test, and the proxies in front of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.kinds import Fault
from tests.faults.proxy import CONTROL
from tests.servers import parts
from tests.servers.launch import DYNAMODB_LOCAL
from tests.servers.ports import free_port
from tests.servers.process import HOST, serving

_LEASH: Final = Path(parts.SOURCES, "die_with_parent.py")
_TIMEOUT_SECONDS: Final = 10.0


class PersistentTable:
    """DynamoDB Local with data on disk, so that it can be killed and restarted.

    Args:
        directory: Folder of its data.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._home = parts.DYNAMODB_LOCAL.require()
        self.url = f"http://{HOST}:{self._port}"
        self.restarts = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        options = ["-dbPath", str(self._directory), "-disableTelemetry", "-port", str(self._port)]
        command = [*DYNAMODB_LOCAL, *options]
        return subprocess.Popen(  # noqa: S603 - fixed command
            [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command],
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def restart(self, *, kill: bool) -> None:
        """Stop it and start it again without waiting until it responds."""
        self.end(kill=kill)
        self.restarts += 1
        self._process = self._start()

    def end(self, *, kill: bool = False) -> None:
        """Stop it for good."""
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class ProxyProcess:
    """Fault proxy in a separate process.

    Args:
        url: URL of the proxy.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def switch(self, chances: Mapping[Fault, float]) -> None:
        """Inject these faults instead of the previous ones."""
        self._ask({"chances": chances})

    def injected(self) -> Counter[str]:
        """Return the number of injected faults by kind."""
        return Counter(self._ask(None))

    def _ask(self, content: dict[str, Any] | None) -> dict[str, int]:
        request = urllib.request.Request(  # noqa: S310 - our own proxy
            self.url + CONTROL, data=json.dumps(content).encode() if content else None
        )
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310
            counts: dict[str, int] = json.loads(response.read())
            return counts


@contextmanager
def proxy_process(upstream: str, seed: int) -> Iterator[ProxyProcess]:
    """Yield a proxy that runs until the block ends."""
    port = free_port()
    options = ["--upstream", upstream, "--port", str(port), "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.faults.proxy", *options]
    with serving(command, port, directory=parts.SOURCES.parents[1]) as url:
        yield ProxyProcess(url)
