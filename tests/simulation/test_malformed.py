"""Tests with malformed responses: nothing is lost, duplicated or quoted in a log."""

from __future__ import annotations

import pytest

from tests.simulation import faults
from tests.simulation.faults import FaultRates
from tests.simulation.scenario import run_seed


@pytest.mark.parametrize("first", range(0, 20, 10))
def test_nothing_is_lost_when_half_of_the_responses_are_malformed(
    monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    rates = FaultRates(malformed=0.5, surplus_messages=0.5)
    monkeypatch.setattr(faults.FaultRates, "drawn", lambda *_: rates)
    reports = [run_seed(seed) for seed in range(first, first + 10)]
    assert sum(report.faults for report in reports) > 500
    assert sum(report.recorded for report in reports) > 100
