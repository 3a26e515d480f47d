"""Accounting of the demonstration: a redelivered message is counted once, and as such."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from tests.unit.fakes import settings
from worker.cli.demo import progress_text
from worker.demo.accounting import OUTCOMES, expected_outcomes, without_redeliveries
from worker.demo.messages import PUBLISHED, conflicting_messages, messages
from worker.demo.run import DemoReport, Scenario, once
from worker.operations.dead_letters.dead_letter import DeadLetter

_EXPECTED = Counter(recorded=340, duplicates=20, dead_lettered=40)


def test_each_message_has_the_outcome_of_its_kind() -> None:
    bodies = [*messages(300), *conflicting_messages()]
    assert expected_outcomes(bodies, {PUBLISHED}) == _EXPECTED
    assert expected_outcomes(bodies[:310], {PUBLISHED}) == {"recorded": 300, "duplicates": 10}


@pytest.mark.parametrize(
    ("figures", "counts"),
    [
        ({}, {}),
        ({"recorded": 300, "duplicates": 12}, {"recorded": 300, "duplicates": 12}),
        (
            {"recorded": 340, "duplicates": 27, "dead_lettered": 41},
            {"recorded": 340, "duplicates": 20, "dead_lettered": 40, "redelivered": 8},
        ),
    ],
)
def test_what_exceeds_the_expected_outcomes_was_redelivered(
    figures: dict[str, int], counts: dict[str, int]
) -> None:
    assert without_redeliveries(figures, _EXPECTED) == Counter(counts)


def test_dead_letter_of_a_redelivered_message_is_counted_once() -> None:
    dead = [cast("DeadLetter", _DeadLetter(body)) for body in ("a", "b", "a", "a", "other")]
    kept = once(dead, ["a", "b", "a"])
    assert [each.message.body for each in kept] == ["a", "b", "a"]


class _Message:
    def __init__(self, body: str) -> None:
        self.body = body


class _DeadLetter:
    def __init__(self, body: str) -> None:
        self.message = _Message(body)


class _Service:
    """A service whose figures change with every look."""

    def __init__(self, *figures: dict[str, Any]) -> None:
        self._left = list(figures)
        self.figures: dict[str, Any] = {}
        self.is_stopped = False

    async def until(
        self, reached: Callable[[dict[str, Any]], bool], show: Callable[[dict[str, Any]], None]
    ) -> None:
        while not reached(self.figures):
            self.figures = self._left.pop(0)
            show(self.figures)

    async def stop(self) -> None:
        self.is_stopped = True


class _Queue:
    def __init__(self, *depths: int) -> None:
        self._depths = list(depths)

    async def state(self) -> Any:
        self.depth = self._depths.pop(0)
        return self


class _Reporter:
    def __init__(self) -> None:
        self.shown: list[tuple[int, Counter[str]]] = []

    def progress(self, sent: int, _: int, counts: Counter[str]) -> None:
        self.shown.append((sent, counts))


async def test_service_runs_until_every_message_is_settled_and_the_queue_is_empty() -> None:
    reporter, report = _Reporter(), DemoReport(sent=3)
    parts = (settings(), _Queue(1, 0), None, reporter, report)
    scenario = Scenario(*cast("tuple[Any, ...]", parts))
    balanced = {"balanced": True, "held": 0}
    service = _Service(
        {"recorded": 1, "duplicates": 2, **balanced},  # a redelivery is not the third message
        {"recorded": 2, "duplicates": 2, **balanced},
        {"recorded": 2, "duplicates": 3, **balanced},
    )
    expected = Counter(recorded=2, duplicates=1)
    await scenario.finish(cast("Any", service), 3, expected)
    assert service.is_stopped
    assert report.redelivered == 2
    assert [counts[name] for _, counts in reporter.shown for name in OUTCOMES[:2]] == [1, 1, 2, 1]


def test_accounting_with_redeliveries_balances() -> None:
    report = DemoReport(
        sent=400, recorded=355, duplicates=20, dead_lettered={"x": 40}, replayed=15, redelivered=7
    )
    assert report.sound
    assert not replace(report, duplicates=27).sound
    assert not replace(report, record={"verification": {"sound": False}}).sound


@pytest.mark.parametrize("redelivered", [0, 3, 99])
def test_progress_fits_a_terminal_of_80_columns(redelivered: int) -> None:
    counts = _EXPECTED + Counter(redelivered=redelivered)
    text = progress_text(400, counts)
    assert len(f"  {'━' * 8} 400/400 {text}") <= 80
    assert ("redelivered" in text) is bool(redelivered)
