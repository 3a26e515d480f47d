"""Tests of message accounting and of durations."""

from __future__ import annotations

import pytest

from worker.domain.outcome import DUPLICATE, RECORDED, Outcome
from worker.errors import Reason
from worker.pipeline.metrics import Accounting, Durations, Metrics


def test_accounting_balances_at_every_moment() -> None:
    accounting = Accounting()
    outcomes = [
        RECORDED,
        DUPLICATE,
        Outcome.dead_lettered(Reason.CONFLICT, ""),
        Outcome.dead_lettered(Reason.INVALID, ""),
        Outcome.returned("later"),
    ]
    for _ in outcomes:
        accounting.open()
        assert accounting.is_balanced
    for outcome in outcomes:
        accounting.close(outcome)
        assert accounting.is_balanced
    assert accounting.figures() == {
        "received": 5,
        "recorded": 1,
        "duplicates": 1,
        "dead_lettered": 2,
        "returned": 1,
        "abandoned": 0,
        "held": 0,
        "balanced": True,
        "dead_by_reason": {"conflict": 1, "invalid": 1},
    }


def test_accounting_does_not_balance_if_a_message_is_closed_twice() -> None:
    accounting = Accounting()
    accounting.open()
    accounting.close(RECORDED)
    accounting.close(RECORDED)
    assert not accounting.is_balanced
    assert accounting.figures()["balanced"] is False
    assert not Accounting(received=2, held=1).is_balanced


def test_metrics_share_nothing() -> None:
    first, second = Metrics(), Metrics()
    first.accounting.open()
    first.calls["x"] += 1
    first.events["y"] += 1
    assert second == Metrics()


def test_quantiles_are_accurate_to_five_percent() -> None:
    durations = Durations()
    for number in range(1, 1001):
        durations.add(number / 1000)
    assert len(durations) == 1000
    for share in (0.01, 0.5, 0.99, 1.0):
        assert durations.quantile(share) == pytest.approx(share, rel=0.05)


def test_durations_may_be_empty_or_near_zero() -> None:
    durations = Durations()
    assert durations.quantile(0.5) == 0
    for seconds in (0.0, -1.0, 1e-9):
        durations.add(seconds)
    assert 0 < durations.quantile(0.99) < 0.0001
    durations.clear()
    assert len(durations) == 0
