"""Handling of repeated signals."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from worker.runtime.signals import on_signals

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def _handlers() -> list[object]:
    return [signal.getsignal(each) for each in _SIGNALS]


async def _handled() -> None:
    for _ in range(5):  # the loop reads its wake-up socket, then calls the handler
        await asyncio.sleep(0)


async def test_later_signal_is_handled_only_a_second_after_the_last_handled_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[str] = []
    now = 100.0
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


async def test_earlier_handlers_apply_again_if_no_signal_was_received() -> None:
    before = _handlers()
    with on_signals(lambda _: None, lambda _: None):
        assert _handlers() != before
    assert _handlers() == before


async def test_signals_are_ignored_after_one_was_received_even_if_not_yet_handled() -> None:
    with on_signals(lambda _: None, lambda _: None):
        signal.raise_signal(signal.SIGTERM)
    assert _handlers() == [signal.SIG_IGN, signal.SIG_IGN]


async def test_default_action_never_applies_between_two_handlers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_handler = signal.signal
    installed: list[object] = []

    def recording(number: int, handler: Any) -> Any:
        installed.append(handler)
        return set_handler(number, handler)

    monkeypatch.setattr(signal, "signal", recording)
    with on_signals(lambda _: None, lambda _: None):
        signal.raise_signal(signal.SIGTERM)
        await _handled()
    assert signal.SIG_DFL not in installed
    assert installed[2:] == [signal.SIG_IGN, signal.SIG_IGN]
