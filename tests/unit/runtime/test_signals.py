"""Handling of repeated signals."""

from __future__ import annotations

import asyncio
import signal

import pytest

from worker.runtime.signals import on_signals


async def _handled() -> None:
    for _ in range(5):  # the loop reads its wake-up socket, then calls the handler
        await asyncio.sleep(0)


async def test_later_signal_is_handled_only_a_second_after_the_last_handled_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    now = 100.0
    before = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    with monkeypatch.context() as patched:
        patched.setattr(asyncio.get_running_loop(), "time", lambda: now)
        with on_signals(
            lambda number: calls.append(f"first {number.name}"),
            lambda number: calls.append(f"again {number.name}"),
        ):
            for seconds, number in (
                (0.0, signal.SIGTERM),
                (0.0, signal.SIGINT),
                (0.99, signal.SIGTERM),
                (1.0, signal.SIGINT),
                (1.5, signal.SIGINT),
                (2.0, signal.SIGTERM),
            ):
                now = 100.0 + seconds
                signal.raise_signal(number)
                await _handled()
    assert calls == ["first SIGTERM", "again SIGINT", "again SIGTERM"]
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == before
