"""The verb that serves the console: what it prints, and what it needs."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from worker.cli import console as module
from worker.cli.app import app
from worker.cli.console import Address, announce_as_json, announce_url, check_installed
from worker.console.context import ConsoleOptions
from worker.errors import UsageError

URL = "http://127.0.0.1:8420/?token=t"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []
    monkeypatch.setattr("webbrowser.open", urls.append)
    monkeypatch.setenv("DISPLAY", ":0")
    return urls


def _announced(
    capsys: pytest.CaptureFixture[str], options: ConsoleOptions, address: Address | None = None
) -> list[str]:
    with patch("sys.stdout", _Terminal()) as terminal:
        announce_url(options, address or Address(), URL, opens=True)
    assert terminal.getvalue() == f"{URL}\n"
    return capsys.readouterr().err.splitlines()


def test_url_is_printed_and_opened(capsys: pytest.CaptureFixture[str], opened: list[str]) -> None:
    assert _announced(capsys, ConsoleOptions("alice")) == [
        "the console can change nothing (read-only); Ctrl-C stops it"
    ]
    assert opened == [URL]


def test_no_browser_is_opened_without_a_display(
    capsys: pytest.CaptureFixture[str], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DISPLAY")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    _announced(capsys, ConsoleOptions("alice"))
    assert opened == []


@pytest.mark.usefixtures("opened")
def test_address_that_other_machines_reach_is_a_warning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    address = Address(host="0.0.0.0")  # noqa: S104 - not bound
    warning = (
        "warning: 0.0.0.0 is reachable from other machines, without encryption: put a proxy with "
        "TLS in front, or use 127.0.0.1 with `ssh -L`"
    )
    found = _announced(capsys, ConsoleOptions("alice", allow_replay=True), address)
    assert found == ["the console can replay dead letters; Ctrl-C stops it", warning]


def test_url_as_json_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    announce_as_json(URL)
    assert json.loads(capsys.readouterr().out)["url"] == URL


@pytest.mark.parametrize("verb", [["console"], ["demo", "--console"]])
def test_missing_extra_is_named_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, verb: list[str]
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    result = CliRunner().invoke(app, verb)
    assert isinstance(result.exception, UsageError)
    assert str(result.exception) == (
        "the console requires Jinja2: pip install 'aup-worker[console]'"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "output"),
    [
        (["console"], 2, "aup-worker: the console requires Jinja2: pip install "),
        (["demo", "--console"], 2, "aup-worker: the console requires Jinja2: pip install "),
        (["console", "--help"], 0, "Serve a web console"),
        (["demo", "--help"], 0, "Run the complete workflow"),
    ],
)
def test_verbs_work_without_the_extra(arguments: list[str], code: int, output: str) -> None:
    script = (
        "import sys; sys.modules.update(jinja2=None, markupsafe=None); "
        f"sys.argv[1:] = {arguments!r}; from worker.__main__ import main; main()"
    )
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, output in done.stdout + done.stderr) == (code, True), done.stderr


def test_installed_extra_is_accepted() -> None:
    check_installed()
