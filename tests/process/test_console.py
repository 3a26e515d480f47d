"""`aup-worker console` and `demo --console`, from the printed URL to Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import pytest

from tests.process.environment import DEADLINE_SECONDS, Environment, wait_until
from tests.process.forked import Fork
from tests.process.kept_demo import BASE_ENVIRONMENT

pytestmark = pytest.mark.timeout(300)


class _Browser:
    """A client that keeps the cookie and sends the origin of its page."""

    def __init__(self, url: str) -> None:
        self._origin = url.partition("/?")[0]
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=["127.0.0.1"]))
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
        self.first_page = self._read(url)

    def _read(self, url: str, data: bytes | None = None) -> str:
        request = urllib.request.Request(url, data, {"Origin": self._origin})  # noqa: S310
        with self._opener.open(request, timeout=DEADLINE_SECONDS) as response:
            return str(response.read().decode())

    def get(self, path: str) -> str:
        return self._read(f"{self._origin}{path}")

    def post(self, path: str, form: str) -> str:
        return self._read(f"{self._origin}{path}", form.encode())


@contextmanager
def _console(process: Fork) -> Iterator[dict[str, Any]]:
    """Yield the JSON lines that a verb prints until it serves; it must end on SIGINT with 0."""
    assert process.stdout is not None
    printed: dict[str, Any] = {}
    while "url" not in printed:
        line = process.stdout.readline()
        assert line, "the verb ended"
        printed |= json.loads(line)
    yield printed
    process.send_signal(signal.SIGINT)
    assert process.wait(DEADLINE_SECONDS) == 0
    with pytest.raises(urllib.error.URLError):
        _Browser(printed["url"])


def test_console_serves_until_interrupted_and_logs_actions(environment: Environment) -> None:
    options = ["--port", "0", "--json", "--operator", "alice"]
    with Fork(
        ["console", *options],
        environment.variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        with _console(process) as printed:
            browser = _Browser(printed["url"])
            assert environment.variables["AUP_QUEUE"] in browser.first_page
            assert "All is well" in browser.first_page
            assert "queue: retention" in browser.get("/diagnostics")
            assert "dead-letter queue" in browser.post("/diagnostics", "a=b")
        assert process.stderr is not None
        lines = [json.loads(each) for each in process.stderr.read().splitlines()]
    [line] = [each for each in lines if each["event"] == "checks run"]
    assert (line["operator"], line["page"], line["level"]) == ("alice", "diagnostics", "info")
    assert line["identity"].startswith("arn:aws:")


def test_demo_stays_open_with_a_worker_and_dead_letters_to_replay() -> None:
    arguments = ["demo", "--console", "--json"]
    with (
        Fork(arguments, dict(BASE_ENVIRONMENT), stdout=subprocess.PIPE) as process,
        _console(process) as printed,
    ):
        assert printed["sound"]
        browser = _Browser(printed["url"])
        assert "Replay allowed" in browser.first_page
        wait_until(lambda: "1 of 1 worker ready" in browser.get("/"), "the worker is ready")
        wait_until(lambda: "12 unknown_policy" in browser.get("/"), "the dead letters are counted")
        assert "2026-03" in browser.get("/policies")
        assert "1 record verified" in browser.get("/evidence?user=u-42")
