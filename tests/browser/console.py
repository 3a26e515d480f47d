"""The installed console as a process, and a plain HTTP client of it."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from tests.private import find_private_text
from tests.process.environment import COMMAND, DEADLINE_SECONDS, wait_until
from tests.process.forked import Fork

_URL: Final = re.compile(r"(http://[^/\s]+)/\?token=([\w-]+)")
_HOST: Final = "127.0.0.1"
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the console.

    Attributes:
        status: Status code.
        headers: Headers, with names in lower case.
        text: Body.
    """

    status: int
    headers: Mapping[str, str]
    text: str


class Console:
    """A running console.

    Args:
        process: Its process.
        output: Everything that it prints.

    Attributes:
        process: Its process.
        base: Its origin, such as `http://127.0.0.1:8080`.
        token: The token in its printed URL.
    """

    def __init__(self, process: Fork | subprocess.Popen[bytes], output: IO[bytes]) -> None:
        self.process = process
        self._output = output
        wait_until(self._is_up, "the console prints its URL")
        found = _URL.search(self.printed())
        assert found is not None, self.printed()
        self.base, self.token = found.groups()
        self._cookie = ""

    @property
    def url(self) -> str:
        """The URL to open, with the token."""
        return f"{self.base}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The cookie that the token is exchanged for."""
        if not self._cookie:
            response = self.ask("GET", f"/?token={self.token}")
            self._cookie = response.headers["set-cookie"].partition(";")[0]
        return self._cookie

    def printed(self) -> str:
        """Return everything that it printed."""
        self._output.seek(0)
        return self._output.read().decode()

    def log(self, event: str) -> list[dict[str, Any]]:
        """Return the log lines of an event."""
        lines = [json.loads(each) for each in self.printed().splitlines() if each.startswith("{")]
        return [each for each in lines if each["event"] == event]

    def ask(
        self,
        method: str,
        path: str,
        form: Mapping[str, Any] | None = None,
        headers: Mapping[str, str | bytes] | None = None,
    ) -> Response:
        """Send a request with exactly these headers, and return the response."""
        connection = http.client.HTTPConnection(self.base.removeprefix("http://"), timeout=30)
        body = None if form is None else urllib.parse.urlencode(form, doseq=True)
        sent: dict[str, Any] = {
            **({} if form is None else {"Content-Type": _FORM}),
            **(headers or {}),
        }
        try:
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            content = response.read().decode()
        finally:
            connection.close()
        named = {name.lower(): value for name, value in response.getheaders()}
        return Response(response.status, named, content)

    def get(self, path: str) -> Response:
        """Return a page as a signed-in browser gets it."""
        return self.ask("GET", path, headers={"Cookie": self.cookie})

    def post(self, path: str, form: Mapping[str, Any] | None = None) -> Response:
        """Send a form as a page of the console does."""
        return self.ask("POST", path, form or {}, {"Cookie": self.cookie, "Origin": self.base})

    def memory_mib(self) -> float:
        """Return its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def cpu_seconds(self) -> float:
        """Return the CPU time that its threads have used."""
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(each.read_text(encoding="utf-8").split()[0]) for each in threads) / 1e9

    def _is_up(self) -> bool:
        assert self.process.poll() is None, self.printed()
        return _URL.search(self.printed()) is not None


@contextmanager
def console(
    variables: Mapping[str, str], *options: str, installed: bool = False
) -> Iterator[Console]:
    """Run the console until the block ends; its log must contain nothing private.

    Args:
        variables: All environment variables.
        options: Options of the verb.
        installed: Whether to run the installed command instead of a fork, which starts faster.
    """
    arguments = ["console", "--port", "0", *options]
    environment = {**variables, "AUP_LOG_FORMAT": "json"}
    with tempfile.TemporaryFile() as output:
        process: Fork | subprocess.Popen[bytes]
        if installed:
            process = subprocess.Popen(  # noqa: S603 - our own command
                [COMMAND, *arguments],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        else:
            process = Fork(arguments, environment, stdout=output, stderr=output)
        with process:
            try:
                running = Console(process, output)
                yield running
                part = find_private_text(running.printed())
                assert part is None, f"the log contains something private: {part}"
            finally:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(DEADLINE_SECONDS)
                finally:
                    process.kill()
