"""The servers of a soak, and a proxy before each."""

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
from tests.servers.ports import free_port
from tests.servers.process import HOST, serving

_LEASH: Final = Path(parts.SOURCES, "die_with_parent.py")
_PATIENCE_SECONDS: Final = 10.0


class KeptTable:
    """DynamoDB Local on files, so that it can be killed and started again.

    Args:
        directory: where it keeps its data.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._port = free_port()
        self._home = parts.DYNAMODB_LOCAL.require()
        self.url = f"http://{HOST}:{self._port}"
        self.restarts = 0
        self._process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        java = ["java", "-Xmx512m", "-Djava.library.path=./DynamoDBLocal_lib"]
        options = ["-dbPath", str(self._directory), "-disableTelemetry", "-port", str(self._port)]
        command = [*java, "-jar", "DynamoDBLocal.jar", *options]
        return subprocess.Popen(  # noqa: S603 - the command stands above
            [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command],
            cwd=self._home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def restart(self, *, kill: bool) -> None:
        """End it, and start it anew without waiting for its first answer."""
        self.end(kill=kill)
        self.restarts += 1
        self._process = self._start()

    def end(self, *, kill: bool = False) -> None:
        """End it for good."""
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class SwitchedProxy:
    """A fault proxy in a process of its own.

    Args:
        url: where it listens.
    """

    def __init__(self, url: str) -> None:
        self.url = url

    def switch(self, chances: Mapping[Fault, float]) -> None:
        """Let faults happen, in place of those that did before."""
        self._ask({"chances": chances})

    def injected(self) -> Counter[str]:
        """Count what came to pass."""
        return Counter(self._ask(None))

    def _ask(self, content: dict[str, Any] | None) -> dict[str, int]:
        request = urllib.request.Request(  # noqa: S310 - our own proxy
            self.url + CONTROL, data=json.dumps(content).encode() if content else None
        )
        with urllib.request.urlopen(request, timeout=_PATIENCE_SECONDS) as answer:  # noqa: S310
            counts: dict[str, int] = json.loads(answer.read())
            return counts


@contextmanager
def proxy_before(upstream: str, seed: int) -> Iterator[SwitchedProxy]:
    """Lend a proxy that runs until the block ends."""
    port = free_port()
    options = ["--upstream", upstream, "--port", str(port), "--seed", str(seed)]
    command = [sys.executable, "-m", "tests.faults.proxy", *options]
    with serving(command, port, directory=parts.SOURCES.parents[1]) as url:
        yield SwitchedProxy(url)
