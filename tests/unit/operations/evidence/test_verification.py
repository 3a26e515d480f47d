"""Contradictory times in a record produce remarks and leave the record sound."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import acceptance, policy
from worker.domain.evidence import build_item
from worker.operations.evidence.verification import verify_record

DAY = 86_400


def _remarks(
    received_seconds: float, recorded_seconds: float, tolerance_seconds: float = 300.0
) -> list[str]:
    item = build_item(
        acceptance(accepted_at=START.isoformat()),
        received_at=START + timedelta(seconds=received_seconds),
        recorded_at=START + timedelta(seconds=received_seconds + recorded_seconds),
    )
    verification = verify_record(item, policy(), tolerance_seconds)
    assert verification.sound  # the user did accept
    assert verification.result()["remarks"] == verification.remarks
    return verification.remarks


@pytest.mark.parametrize(
    ("received_seconds", "recorded_seconds"),
    [(0, 0), (-300, 0), (0, -300), (90 * DAY, 0), (0, 14 * DAY), (-300, -300)],
)
def test_times_within_the_tolerance_have_no_remark(
    received_seconds: float, recorded_seconds: float
) -> None:
    assert _remarks(received_seconds, recorded_seconds) == []


def test_each_contradiction_has_a_remark() -> None:
    assert _remarks(-301, 0) == ["received_at is 301 s before accepted_at: a clock was wrong"]
    assert _remarks(0, -301) == ["recorded_at is 301 s before received_at: a clock was wrong"]
    [remark] = _remarks(0, 15 * DAY)
    assert remark.startswith("recorded_at is 1296000 s after received_at, longer than SQS keeps")
    assert len(_remarks(-301, -2 * DAY)) == 2


def test_tolerance_is_configurable() -> None:
    assert _remarks(-301, 0, 301) == []
    assert len(_remarks(-2, -2, 1)) == 2


@pytest.mark.parametrize("value", [None, "", "soon", 12, b"x", "2026-11-22T10:00:00"])
def test_value_that_is_not_a_time_has_no_remark(value: Any) -> None:
    item = build_item(acceptance(), received_at=START, recorded_at=START - timedelta(days=2))
    assert len(verify_record(item, policy()).remarks) == 1
    assert verify_record({**item, "received_at": value}, policy()).remarks == []
    del item["recorded_at"]
    assert verify_record(item, policy()).remarks == []
