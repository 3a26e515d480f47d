"""Live line of `run`: figures, state, width and its end."""

from __future__ import annotations

import asyncio
import re
from typing import Final

import pytest

from tests.unit.monitoring import FakePipeline, status_of
from worker.domain.outcome import OutcomeKind
from worker.observability import live_line as module
from worker.observability.live_line import compose, live_line, state_of
from worker.pipeline.metrics import Accounting
from worker.runtime.logs import TerminalSink


@pytest.fixture(autouse=True)
def _without_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")


_RECEIVED: Final = "received 400  recorded 355"


def _accounting(scale: int = 1, returned: int = 0) -> Accounting:
    by_kind = {
        OutcomeKind.RECORDED: 355 * scale,
        OutcomeKind.DUPLICATE: 20 * scale,
        OutcomeKind.DEAD_LETTERED: 25 * scale,
        OutcomeKind.RETURNED: returned,
    }
    accounting = Accounting(received=400 * scale + returned)
    accounting.by_kind.update(by_kind)
    return accounting


@pytest.mark.parametrize(
    ("columns", "line"),
    [
        (
            95,
            f"{_RECEIVED}  duplicates 20  dead-lettered 25  12.5/s  ready  Ctrl-C drains",
        ),
        (79, "received 400  recorded 355  dupl. 20  dead 25  12.5/s  ready  Ctrl-C drains"),
        (60, "received 400  recorded 355  dupl. 20  dead 25  12.5/s  ready"),
        (50, "recorded 355  dupl. 20  dead 25  12.5/s  ready"),
        (40, "12.5/s  ready"),
    ],
)
def test_line_fits_the_terminal(columns: int, line: str) -> None:
    assert compose(_accounting(), 12.5, "ready", "Ctrl-C drains", columns) == line


@pytest.mark.parametrize("columns", range(20, 200, 7))
@pytest.mark.parametrize("state", ["ready", "table acceptances: access denied " * 5])
def test_line_is_never_wider_than_the_terminal(columns: int, state: str) -> None:
    line = compose(_accounting(1_000_000, 5), 1e6, state, "Ctrl-C drains", columns)
    assert len(line) <= columns
    assert state[:5] in line or columns < 30


def test_returned_messages_are_shown_if_there_are_any() -> None:
    line = compose(_accounting(returned=3), 0.0, "ready", "Ctrl-C drains", 119)
    assert "dead-lettered 25  returned 3  0.0/s" in line


@pytest.mark.parametrize(("state", "style"), [("ready", "32"), ("starting", "33")])
def test_colour_is_that_of_the_state(
    state: str, style: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR")
    line = compose(_accounting(), 0.0, state, "Ctrl-C drains", 119)
    assert f"\x1b[{style}m{state}\x1b[0m" in line


async def test_state_is_the_first_reason_for_not_being_ready() -> None:
    pipeline = FakePipeline()
    assert state_of(status_of(None)) == "starting"
    status = status_of(pipeline)
    assert state_of(status) == "ready"
    pipeline.health.not_ready = ["the table is failing", "no poll"]
    assert state_of(status) == "the table is failing"
    pipeline.metrics.accounting.open()
    status.stopping.set()
    assert state_of(status) == "draining, 1 held"


async def test_line_is_redrawn_until_the_end_and_then_removed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_REDRAW_SECONDS", 0.01)
    monkeypatch.setattr(module, "terminal_columns", lambda: 120)
    pipeline = FakePipeline()
    status = status_of(pipeline)
    shown = ""
    async with live_line(status, TerminalSink()):
        for expected in ("received 0 ", "received 1 ", "Ctrl-C stops immediately"):
            while expected not in shown:
                await asyncio.sleep(0.01)
                shown += capsys.readouterr().err
            if expected == "received 0 ":
                pipeline.metrics.accounting.open()
            else:
                status.stopping.set()
    assert (shown + capsys.readouterr().err).endswith("\r\x1b[K")
    assert re.search(r"received 1  .*  [1-9][\d,.]*/s", shown)
