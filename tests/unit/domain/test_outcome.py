"""Outcomes as values."""

from __future__ import annotations

from worker.domain.outcome import DUPLICATE, RECORDED, Outcome, OutcomeKind
from worker.errors import Reason


def test_outcome_has_its_kind_and_its_explanation() -> None:
    assert Outcome(OutcomeKind.RECORDED) == RECORDED
    assert Outcome(OutcomeKind.DUPLICATE) == DUPLICATE
    assert Outcome.dead_lettered(Reason.CONFLICT, "d") == Outcome(
        OutcomeKind.DEAD_LETTERED, Reason.CONFLICT, "d"
    )
    assert Outcome.returned("d", 3.0) == Outcome(OutcomeKind.RETURNED, None, "d", 3.0)


def test_detail_is_one_line() -> None:
    assert Outcome.dead_lettered(Reason.INVALID, "a\nb\u2028c").detail == "a b c"
    assert Outcome.returned("a\r\nb").detail == "a b"
