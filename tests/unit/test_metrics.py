"""State that the books balance, or say that they do not."""

from __future__ import annotations

from worker.delivery import DUPLICATE, RECORDED, Outcome
from worker.errors import Reason
from worker.metrics import Books, Metrics


def test_the_books_balance_at_every_moment() -> None:
    books = Books()
    outcomes = [
        RECORDED,
        DUPLICATE,
        Outcome.dead(Reason.CONFLICT, ""),
        Outcome.dead(Reason.INVALID, ""),
        Outcome.returned("later"),
    ]
    for _ in outcomes:
        books.open()
        assert books.balance
    for outcome in outcomes:
        books.close(outcome)
        assert books.balance
    assert books.figures() == {
        "received": 5,
        "recorded": 1,
        "duplicates": 1,
        "dead_lettered": 2,
        "returned": 1,
        "held": 0,
        "balanced": True,
        "dead_by_reason": {"conflict": 1, "invalid": 1},
    }


def test_a_delivery_closed_twice_or_never_received_unbalances_them() -> None:
    books = Books()
    books.open()
    books.close(RECORDED)
    books.close(RECORDED)
    assert not books.balance
    assert books.figures()["balanced"] is False
    assert not Books(received=2, held=1).balance


def test_nothing_is_shared_between_metrics() -> None:
    first, second = Metrics(), Metrics()
    first.books.open()
    first.calls["x"] += 1
    first.events["y"] += 1
    assert second == Metrics()
