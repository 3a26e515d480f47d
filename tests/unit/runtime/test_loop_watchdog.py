"""The watchdog of the event loop."""

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
    recorded = _Exits()
    monkeypatch.setattr(os, "_exit", recorded)
    return recorded


async def test_blocked_loop_ends_the_process_with_a_message(
    exits: _Exits, capsys: pytest.CaptureFixture[str]
) -> None:
    async with EventLoopWatchdog(0.03, warn_seconds=10):
        exits.happened.wait(5)  # blocks the thread of the loop
    assert exits.codes[0] == 1
    assert "gave up: the event loop was blocked for 0." in capsys.readouterr().err


async def test_blocked_stderr_does_not_prevent_the_exit(
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
        assert exits.happened.wait(10)  # blocks the thread of the loop
    assert exits.codes[0] == 1
    released.set()


async def test_process_ends_even_if_no_thread_can_be_started(
    exits: _Exits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async with EventLoopWatchdog(0.03, warn_seconds=10):
        monkeypatch.setattr(threading.Thread, "start", refuse)
        assert exits.happened.wait(10)  # blocks the thread of the loop
    assert exits.codes[0] == 1


async def test_responsive_loop_does_not_end_the_process(exits: _Exits) -> None:
    async with EventLoopWatchdog(0.05, warn_seconds=10):
        for _ in range(10):
            await asyncio.sleep(0.01)
    assert exits.codes == []


async def test_short_block_is_only_logged(exits: _Exits) -> None:
    with capture_logs() as logs:
        async with EventLoopWatchdog(60, warn_seconds=0.02):
            await asyncio.sleep(0.01)
            time.sleep(0.05)  # noqa: ASYNC251 - blocks the loop
            await asyncio.sleep(0.02)
    assert exits.codes == []
    assert [entry["event"] for entry in logs] == ["event loop blocked"]
    assert logs[0]["seconds"] >= 0.02


async def test_watchdog_leaves_no_thread_or_task(exits: _Exits) -> None:
    async with EventLoopWatchdog(60):
        pass
    assert exits.codes == []
    assert not [each for each in threading.enumerate() if each.name == "event-loop watchdog"]
    assert len(asyncio.all_tasks()) == 1


async def test_lag_is_kept_for_a_while() -> None:
    async with EventLoopWatchdog(60, warn_seconds=0.02) as watchdog:
        await asyncio.sleep(0.05)
        time.sleep(0.15)  # noqa: ASYNC251 - blocks the loop
        await asyncio.sleep(0.02)
        assert 0.1 < watchdog.lag_seconds < 5
        async with asyncio.timeout(10):
            while watchdog.lag_seconds > 0.1:  # noqa: ASYNC110 - there is no event to wait for
                await asyncio.sleep(0.02)
