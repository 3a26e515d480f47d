"""Layout of `status` at every width, escaping of untrusted text, and the end of a live view."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.simulation.virtual_clock import START
from worker.aws.sqs_responses import QueueState
from worker.cli.live import History, draw, line, repeat, watch
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSError, AWSUnavailableError
from worker.operations.status.observer import QueueStatus, ReasonCounts, Status, WorkerStatus
from worker.operations.status.scrape import Sample


def _queue(visible: int, **changes: Any) -> QueueStatus:
    state = QueueState(
        url="https://sqs.test/q", arn="arn", visible=visible, in_flight=50, delayed=7,
        retention_seconds=345_600, fifo=False, max_receive_count=None, redrives_to=None,
    )  # fmt: skip
    return QueueStatus(**{"state": state, "net_per_second": -12.34, **changes})


_READY = WorkerStatus(
    Sample("10.0.0.1:8080", 0, ready=True, held=42, settled=dict.fromkeys(OutcomeKind, 9)),
    {
        OutcomeKind.RECORDED: 1120.5,
        OutcomeKind.DUPLICATE: 0.5,
        OutcomeKind.DEAD_LETTERED: 0.25,
        OutcomeKind.RETURNED: 0.0,
    },
)
_THROTTLED = WorkerStatus(
    Sample("10.0.0.2:8080", 0, reasons=("table throttles", "no poll"), held=3), None
)
_SILENT = WorkerStatus(Sample("10.0.0.3:8080", 0, problem="no response (Connection refused)"))
_REASON_COUNTS = ReasonCounts(
    counts={"invalid": 30, "unknown_policy": 10},
    seen=40,
    known=1200,
    unknown="",
    scanned_at=START - timedelta(seconds=12),
    expires_at=START + timedelta(days=13),
)


def _status(workers: Sequence[WorkerStatus] = (_READY, _THROTTLED, _SILENT)) -> Status:
    return Status(
        at=START,
        queue=_queue(123_456, oldest_age_seconds=200.0),
        dead_letters=_queue(1150, age_unknown="denied"),
        reason_counts=_REASON_COUNTS,
        workers=tuple(workers),
    )


def _drawn(
    status: Status, columns: int = 80, history: History | None = None, encoding: str = "utf-8"
) -> str:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="\n")
    console = Console(file=stream, width=columns, highlight=False)
    console.print(draw(status, columns, history))
    stream.flush()
    return stream.buffer.getvalue().decode(encoding)


def test_layout_contains_all_figures() -> None:
    shown = _drawn(_status())
    assert "queue         123,456         50        7    3 min  -12.3" in shown
    assert "unknown" in shown, "no source reports the age"
    assert re.search(r"10.0.0.1:8080 +ready +1,120.5 +0.5 +0.2 +0.0 +42\n", shown)
    assert "1,120.5" in shown
    assert "10.0.0.2:8080: table throttles; no poll" in shown
    assert "10.0.0.3:8080: no response (Connection refused)" in shown
    assert re.search(r"total +1 of 3 +1,120.5 .* 45\n", shown)
    assert "unknown_policy             10" in shown
    notes = [
        "scanned 40 of about 1,200: `dead-letters list` counts all",
        "first expires in 13 d",
        "scanned 12 s ago",
    ]
    assert [each.strip() for each in shown.splitlines()[-3:]] == notes
    assert "; ".join(notes) in _drawn(_status(), 120)


@pytest.mark.parametrize("columns", [60, 61, 71, 72, 80, 120, 200])
def test_layout_fits_every_width(columns: int) -> None:
    history = History()
    for number in range(300):
        status = _status()
        history.add(replace(status, queue=_queue(number * 1000)))
    shown = _drawn(_status(), columns, history)
    assert max(map(cell_len, shown.splitlines())) <= columns
    for text in ("visible", "in flight", "delayed", "oldest", "net/s", "recorded/s", "dupl./s",
                 "dead/s", "held", "123,456", "1,120.5", "peak", "299,057"):  # fmt: skip
        assert text in shown, text
    flat = next(each for each in shown.splitlines() if each.startswith("dead letters  ─"))
    assert flat.count("─") == min(
        len(history.series["queue"]), columns - len("dead letters  ") - 18
    )


def test_bars_are_ascii_if_the_encoding_is() -> None:
    history = History()
    for _ in range(3):
        history.add(_status())
    shown = _drawn(_status(), 80, history, encoding="ascii")
    assert "queue         ---" in shown
    assert shown.isascii()


def test_net_rate_is_shown_if_there_are_no_workers() -> None:
    history = History()
    history.add(_status([]))
    assert list(history.series) == ["queue", "dead letters", "net/s"]
    assert "recorded/s" not in _drawn(_status([]), 80, history)


@pytest.mark.parametrize(
    ("reason_counts", "text"),
    [
        (ReasonCounts(unknown="denied"), "dead letters by reason: unknown (denied)"),
        (ReasonCounts(counts={}, unknown=""), "dead letters by reason: none"),
    ],
)
def test_missing_reasons_are_explained(reason_counts: ReasonCounts, text: str) -> None:
    assert text in _drawn(replace(_status(), reason_counts=reason_counts))


def test_untrusted_text_is_escaped() -> None:
    reason_counts = replace(_REASON_COUNTS, counts={"\x1b[31m[bold]x": 1})
    worker = WorkerStatus(Sample("w:1", 0, reasons=("\x1b]0;x\x07",)))
    status = replace(_status([worker]), reason_counts=reason_counts)
    for shown in (_drawn(status), line(status)):
        assert "[bold]x" in shown
    assert "\\x1b[31m" in _drawn(status)
    assert "\x1b" not in _drawn(status)


def test_line_contains_all_figures() -> None:
    assert line(_status()) == (
        "2026-11-22T10:00:00+00:00; queue 123,456 visible; 50 in flight; 7 delayed; oldest 3 min; "
        "net -12.3/s; dead letters 1,207 (invalid 30, unknown_policy 10); "
        "10.0.0.1:8080 ready, recorded 1,120.5/s, 42 held; "
        "10.0.0.2:8080 not ready, recorded unknown, 3 held; "
        "10.0.0.3:8080 no response (Connection refused)"
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_signal_cancels_a_running_refresh(number: signal.Signals) -> None:
    count = 0

    async def refresh() -> None:
        nonlocal count
        count += 1
        if count == 3:
            os.kill(os.getpid(), number)
            await asyncio.sleep(60)

    async with asyncio.timeout(10):
        await repeat(refresh, 0.01, asyncio.Event())
    assert count == 3


async def test_error_of_a_refresh_is_shown_with_the_latest_figures() -> None:
    answers: list[Status | AWSError] = [
        _status(), AWSUnavailableError("GetQueueAttributes q: no [bold]answer"), _status([]),
    ]  # fmt: skip
    stream = io.StringIO()
    console = Console(file=stream, width=100, height=40, force_terminal=True, highlight=False)
    shown = []

    async def observe() -> Status:
        shown.append(stream.getvalue())
        stream.truncate(0)
        stream.seek(0)
        if not answers:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.sleep(60)
        answer = answers.pop(0)
        if isinstance(answer, AWSError):
            raise answer
        return answer

    async with asyncio.timeout(10):
        await watch(observe, console, 0.01)
    _, first, second, third = shown
    assert "every 0.01 s; q to quit" in first
    for known in ("123,456", "unknown_policy"):
        assert known in first
        assert known in second
        assert known in third
    assert "refresh failed: GetQueueAttributes q: no [bold]answer" in second
    assert "refresh failed" not in first + third
    assert stream.getvalue().endswith("\x1b[?25h\x1b[?1049l")


async def test_error_of_the_first_refresh_ends_the_view() -> None:
    async def observe() -> Status:
        raise AWSUnavailableError("no answer")

    stream = io.StringIO()
    with pytest.raises(AWSUnavailableError):
        await watch(observe, Console(file=stream, force_terminal=True), 0.01)
    assert "\x1b[?1049l" in stream.getvalue()


async def test_other_error_ends_the_loop() -> None:
    async def refresh() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        await repeat(refresh, 0.01, asyncio.Event())


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_colour_says_ready_not_ready_and_dead_letters_unless_there_is_to_be_none(
    no_color: str, coloured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", no_color)
    stream = io.StringIO()
    console = Console(
        file=stream, width=100, force_terminal=True, color_system="standard", highlight=False
    )
    history = History()
    history.add(_status())
    console.print(draw(_status(), 100, history))
    shown = stream.getvalue()
    for text in (
        "\x1b[32mready", "\x1b[33mnot ready", "\x1b[1;31mno response", "\x1b[31m1,150",
        "\x1b[31m─", "\x1b[31m█", "\x1b[36m─",
    ):  # fmt: skip
        assert (text in shown) is coloured, text
    assert "not ready" in shown
    assert re.search(r"\x1b\[[34]\dm", shown) is None or coloured


def test_empty_dead_letter_queue_is_not_coloured() -> None:
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=True, color_system="standard")
    empty = replace(_queue(0).state, in_flight=0, delayed=0)
    status = replace(_status([]), dead_letters=_queue(0, state=empty))
    console.print(draw(replace(status, reason_counts=ReasonCounts(counts={}, unknown="")), 100))
    assert "\x1b[31m" not in stream.getvalue()
