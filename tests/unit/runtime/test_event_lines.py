"""Log on a terminal: short lines, above a line that is redrawn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from worker.runtime import event_lines, logs
from worker.runtime.logs import bind, configure, terminal_sink


@pytest.fixture(autouse=True)
def _on_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(logs, "is_terminal", lambda: True)
    monkeypatch.setattr(event_lines, "terminal_columns", lambda: 80)
    monkeypatch.setenv("NO_COLOR", "1")
    yield
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    text = capsys.readouterr().err
    assert text.startswith("\r\x1b[K"), "what is on the line is erased"
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", each) for each in text[4:].splitlines()]


def _logged(capsys: pytest.CaptureFixture[str], level: str, event: str, **fields: Any) -> list[str]:
    configure("debug", "auto")
    getattr(structlog.get_logger(), level)(event, **fields)
    return _lines(capsys)


def test_start_names_queue_and_table_only(capsys: pytest.CaptureFixture[str]) -> None:
    lines = _logged(
        capsys,
        "info",
        "started",
        version="1.0",
        queue="https://sqs.eu-west-1.amazonaws.com/123456789012/aup-acceptances",
        user_table="aup-acceptances",
        start_seconds=0.2,
    )
    assert lines == ["started: queue=aup-acceptances user_table=aup-acceptances"]


def test_drain_fits_a_line_with_the_number_of_its_process(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fields = {"held": 1500, "wait_seconds": 20, "drain_timeout_seconds": 25.0}
    assert _logged(capsys, "info", "drain started", process=2, **fields) == [
        "process 2: drain started: held=1500"
    ]


def test_end_has_the_figures_that_are_not_zero(capsys: pytest.CaptureFixture[str]) -> None:
    figures = {"received": 3, "recorded": 2, "duplicates": 0, "dead_lettered": 1, "returned": 0}
    lines = _logged(capsys, "info", "stopped", **figures, abandoned=0, calls={}, p50_ms=1.5)
    assert lines == ["stopped: received=3 recorded=2 duplicates=0 dead_lettered=1"]


def test_warning_has_all_fields_broken_between_words(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"https://{'x' * 80}/"
    lines = _logged(
        capsys, "warning", "AWS unavailable, retrying", error=f"no response from {url}", none=None
    )
    assert lines == ["warning: AWS unavailable, retrying: error=no response from", f"  {url}"]


def test_process_of_several_and_its_exception_are_named(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure("info", "auto")
    bind({"process": 2})
    text = "private"
    try:
        int(text)
    except ValueError:
        structlog.get_logger().exception("background task failed")
    lines = _lines(capsys)
    assert lines[0] == "process 2: error: background task failed"
    assert lines[1] == "Traceback (most recent call last):"
    assert text not in "\n".join(lines)


def test_control_characters_of_values_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    assert _logged(capsys, "info", "x", value="\x1b[31mred\u202e") == [
        "x: value='\\x1b[31mred\\u202e'"
    ]


def test_summaries_are_left_to_the_live_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "auto")
    structlog.get_logger().info("summary", received=3)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("no_color", "start"), [("", "\x1b[33m"), ("1", "")])
def test_colour_is_that_of_the_level_unless_there_is_to_be_none(
    no_color: str,
    start: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    configure("info", "auto")
    structlog.get_logger().warning("lease lost")
    assert re.match(rf"\r\x1b\[K{re.escape(start)}\d\d:\d\d", capsys.readouterr().err)


def test_live_line_is_redrawn_below_each_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "auto")
    sink = terminal_sink()
    assert sink is not None
    sink.show("live")
    structlog.get_logger().info("ready again")
    sink.show("")
    shown = capsys.readouterr().err
    assert re.fullmatch(
        r"\r\x1b\[Klive\r\x1b\[K\d\d:\d\d:\d\d ready again\nlive\r\x1b\[K", shown
    ), repr(shown)


@pytest.mark.parametrize(
    ("log_format", "terminal"), [("json", "xterm"), ("text", "xterm"), ("auto", "dumb")]
)
def test_other_formats_and_terminals_have_no_live_line(
    log_format: Literal["auto", "json", "text"],
    terminal: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(logs, "is_terminal", event_lines.is_terminal)
    monkeypatch.setenv("TERM", terminal)
    configure("info", log_format)
    structlog.get_logger().info("summary", received=3)
    assert "received" in capsys.readouterr().err
    assert terminal_sink() is None


def test_width_is_that_of_the_terminal_or_80(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert event_lines.terminal_columns() == 80
