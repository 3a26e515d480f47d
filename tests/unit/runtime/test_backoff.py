"""Delays by exponential backoff with full jitter."""

from __future__ import annotations

import random

import pytest

from worker.runtime.backoff import full_jitter


def _longest(attempt: int) -> float:
    return full_jitter(attempt, base_seconds=1.0, cap_seconds=60.0, random_unit=lambda: 1.0)


def test_upper_bound_doubles_with_every_attempt_up_to_the_cap() -> None:
    assert [_longest(attempt) for attempt in range(1, 9)] == [1, 2, 4, 8, 16, 32, 60, 60]


def test_large_attempt_number_does_not_overflow() -> None:
    assert _longest(100_000) == 60


def test_delays_are_uniform_between_zero_and_the_bound() -> None:
    source = random.Random(1)
    delays = [
        full_jitter(4, base_seconds=1.0, cap_seconds=60.0, random_unit=source.random)
        for _ in range(2000)
    ]
    assert 0 <= min(delays) < 0.1
    assert 7.9 < max(delays) < 8
    assert sum(delays) / len(delays) == pytest.approx(4, rel=0.05)


def test_cap_below_the_base_limits_the_first_delay() -> None:
    assert full_jitter(1, base_seconds=9, cap_seconds=2, random_unit=lambda: 1.0) == 2
