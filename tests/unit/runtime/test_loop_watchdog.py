"""State that a loop that stands still ends the process, and one that turns does not."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import sys
import threading
import time

import pytest
from structlog.testing import capture_logs

from worker.runtime.loop_watchdog import EventLoopWatchdog


class _Exits:
    def __init__(self) -> None:
        self.codes: list[int] = []
        self.happened = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.happened.set()


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> _Exits:
    noted = _Exits()
    monkeypatch.setattr(os, "_exit", noted)
    return noted


async def test_a_loop_that_stands_still_ends_the_process_with_a_word(
    exits: _Exits, capsys: pytest.CaptureFixture[str]
) -> None:
    async with EventLoopWatchdog(0.03, warn_seconds=10):
        exits.happened.wait(5)  # on the loop's own thread: it stands still
    assert exits.codes[0] == 1
    assert "gave up: the event loop stood still for 0." in capsys.readouterr().err


async def test_stderr_that_blocks_does_not_keep_the_process_from_ending(
    exits: _Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()

    class _Blocked(io.StringIO):
        def write(self, _: str) -> int:
            released.wait(30)
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("worker.runtime.loop_watchdog._MESSAGE_SECONDS", 0.01)
    monkeypatch.setattr(sys, "stderr", _Blocked())
    async with EventLoopWatchdog(0.03, warn_seconds=10):
        assert exits.happened.wait(10)  # on the loop's own thread: it stands still
    assert exits.codes[0] == 1
    released.set()


async def test_process_ends_where_no_thread_can_be_started(
    exits: _Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with EventLoopWatchdog(0.03, warn_seconds=10):
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert exits.happened.wait(10)  # on the loop's own thread: it stands still
    assert exits.codes[0] == 1


async def test_a_loop_that_turns_is_left_alone(exits: _Exits) -> None:
    async with EventLoopWatchdog(0.05, warn_seconds=10):
        for _ in range(10):
            await asyncio.sleep(0.01)
    assert exits.codes == []


async def test_a_short_stall_is_only_warned_of(exits: _Exits) -> None:
    with capture_logs() as logs:
        async with EventLoopWatchdog(60, warn_seconds=0.02):
            await asyncio.sleep(0.01)
            time.sleep(0.05)  # noqa: ASYNC251 - it is the stall
            await asyncio.sleep(0.02)
    assert exits.codes == []
    assert [entry["event"] for entry in logs] == ["the event loop stood still"]
    assert logs[0]["seconds"] >= 0.02


async def test_the_guard_leaves_neither_thread_nor_task_behind(exits: _Exits) -> None:
    async with EventLoopWatchdog(60):
        pass
    assert exits.codes == []
    assert not [each for each in threading.enumerate() if each.name == "stall guard"]
    assert len(asyncio.all_tasks()) == 1


async def test_how_late_the_loop_was_is_known_for_a_while_and_then_forgotten() -> None:
    async with EventLoopWatchdog(60, warn_seconds=0.02) as guard:
        await asyncio.sleep(0.05)
        time.sleep(0.15)  # noqa: ASYNC251 - the loop must stand still
        await asyncio.sleep(0.02)
        assert 0.1 < guard.lag_seconds < 5
        async with asyncio.timeout(10):
            while guard.lag_seconds > 0.1:  # noqa: ASYNC110 - nobody tells when it is forgotten
                await asyncio.sleep(0.02)
