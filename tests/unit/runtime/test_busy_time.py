"""Tests of the time in which a thread was not idle."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from worker.runtime import busy_time
from worker.runtime.busy_time import busy_seconds


def test_time_of_a_computation_counts() -> None:
    before, used_before = busy_seconds(), time.thread_time()
    while time.thread_time() - used_before < 0.05:
        pass
    assert busy_seconds() - before >= 0.04


def test_time_on_the_core_counts_without_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(busy_time, "_STATISTICS", Path("/nonexistent"))
    assert busy_seconds() == pytest.approx(time.thread_time(), abs=0.05)
