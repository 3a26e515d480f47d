"""Format of the log, and tracebacks without content of messages."""

from __future__ import annotations

import errno
import io
import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from tests.private import checked_logs
from tests.unit.fakes import IP, SESSION_ID, USER_AGENT, acceptance, body, received_message
from worker.errors import AWSError
from worker.runtime.logs import bind, configure, count_drops_in


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    captured = capsys.readouterr()
    assert captured.out == "", "stdout is for data"
    return captured.err.splitlines()


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_lines_are_json_if_stderr_is_not_a_terminal(
    log_format: Literal["json", "auto"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", log_format)
    structlog.get_logger().info("summary", recorded=3, text="é\n")
    (line,) = _lines(capsys)
    entry = json.loads(line)
    assert (entry["event"], entry["recorded"], entry["text"]) == ("summary", 3, "é\n")
    assert entry["level"] == "info"
    assert entry["timestamp"].endswith("Z")


def test_lines_are_text_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    configure("info", "text")
    structlog.get_logger().info("summary", recorded=3)
    (line,) = _lines(capsys)
    assert "summary" in line
    assert "recorded=3" in line
    assert "\x1b" not in line, "no colours without a terminal"


def test_lines_are_text_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    configure("info", "auto")
    structlog.get_logger().info("started")
    assert re.fullmatch(r"\r\x1b\[K\d\d:\d\d:\d\d started\n", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)]
)
def test_lines_below_the_level_are_omitted(
    level: str, expected: int, capsys: pytest.CaptureFixture[str]
) -> None:
    configure(level, "json")
    log = structlog.get_logger()
    for write in (log.debug, log.info, log.warning, log.error):
        write("x")
    assert len(_lines(capsys)) == expected


def _fail(given: Any, stated: Any) -> None:
    raise ZeroDivisionError(f"{type(given)} {type(stated)}")


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_traceback_has_locations_and_no_values(
    log_format: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure("debug", log_format)
    given, stated = received_message(), acceptance()
    try:
        _fail(given, stated)
    except ZeroDivisionError:
        structlog.get_logger().exception("unexpected failure", outcome="returned")
    text = "\n".join(_lines(capsys))
    assert "in _fail" in text
    for secret in (IP, USER_AGENT, SESSION_ID, body(), "event-0", given.receipt_handle):
        assert secret not in text


ITEM = {"accepted_at": {"S": "2026-11-22"}}


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"problem": body()}, True),
        ({"problem": f"from {IP}"}, True),
        ({"problem": IP.rpartition(".")[0] + ".0/24"}, True),
        ({"client": USER_AGENT}, True),
        ({"why": [SESSION_ID]}, True),
        ({"problem": body(9, ip=None, user_agent=None, session_id=None)}, True),
        ({"problem": json.dumps(body(9, ip=None, user_agent=None, session_id=None))}, True),
        ({"given": acceptance(ip=None, user_agent=None, session_id=None)}, True),
        ({"item": ITEM}, True),
        ({"message_id": "m-1", "outcome": "recorded"}, True),
        ({"message_id": "m-1", "event_id": "e-1"}, True),
        ({"message_id": "m-1", "event_id": "e-1", "outcome": "recorded"}, False),
        ({"detail": "accepted_at: 2026-13-22 is no time"}, False),
        ({}, False),
    ],
)
def test_log_check_of_all_tests_detects_private_data_and_missing_ids(
    fields: dict[str, Any], wrong: bool
) -> None:
    with checked_logs() as found:
        structlog.get_logger().debug("x", **fields)
    assert bool(found) is wrong


def test_log_check_of_all_tests_covers_logs_of_libraries() -> None:
    with checked_logs() as found:
        try:
            _fail_with(ValueError(IP))
        except RuntimeError as error:
            logging.getLogger("asyncio").exception("x", exc_info=error)
            logging.getLogger("asyncio").warning("%s", body())
    assert len(found) == 2


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_traceback_has_code_and_types_but_no_text_that_may_quote_a_response(
    capsys: pytest.CaptureFixture[str], log_format: Any
) -> None:
    configure("info", log_format)
    try:
        _fail_with(ExceptionGroup("two", [KeyError(IP), AWSError("a line of our own")]))
    except RuntimeError:
        structlog.get_logger().exception("x")
    shown = capsys.readouterr().err
    for part in ("_fail_with", "RuntimeError", "KeyError", "a line of our own", "SHA-256"):
        assert part in shown
    assert IP not in shown


def _fail_with(cause: Exception) -> None:
    raise RuntimeError from cause


def test_bound_fields_are_in_every_line_of_earlier_loggers_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log = structlog.get_logger()
    configure("info", "json")
    bind({"task_id": "t-1"})
    bind({})
    log.info("started", process_id=7)
    (line,) = _lines(capsys)
    assert json.loads(line).items() >= {"task_id": "t-1", "process_id": 7}.items()


class _Unprintable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


class _UnprintableError(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_event_is_logged_even_if_its_fields_cannot_be_rendered(
    log_format: Literal["json", "text"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure("info", log_format)
    log = structlog.get_logger()
    log.info("summary", given=_Unprintable())
    log.info("failed", exc_info=_UnprintableError())
    (summary, *failed) = _lines(capsys)
    assert "summary" in summary
    assert "ZeroDivisionError" in summary
    assert failed


def test_dropped_lines_are_counted_from_the_start_and_logging_resumes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    configure("info", "json")
    log = structlog.get_logger()
    write = stream.write
    monkeypatch.setattr(stream, "write", _fail_to_write)
    log.info("lost")
    events: Counter[str] = Counter()
    count_drops_in(events)
    log.info("lost")
    monkeypatch.setattr(stream, "write", write)
    log.info("kept")
    assert events == {"log_lines_dropped": 2}
    assert json.loads(stream.getvalue())["event"] == "kept"


def _fail_to_write(_: str) -> int:
    raise OSError(errno.EPIPE, "Broken pipe")
