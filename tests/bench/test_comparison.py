"""Tests of the arithmetic of a comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.bench.variants.comparison import Comparison, ComparisonPlan, _combine
from tests.bench.variants.run import Meter, RunFigures
from worker.errors import BenchError

RUN: Final = RunFigures(
    messages=100,
    seconds=2.0,
    cpu_seconds=0.5,
    calls={"PutItem": 100, "ReceiveMessage": 10},
    p50_ms=3.0,
    p99_ms=9.0,
    connections=4,
    tls_handshakes=0,
    rss_mb=80.0,
    start_seconds=0.7,
)
PLAN: Final = ComparisonPlan(variants=("C", "D"), messages=1000, rounds=3)


def comparison() -> Comparison:
    """Return three rounds: C at 10, 20 and 60 ms per message, D at 5, 5 and 10."""
    created = Comparison(PLAN)
    created.runs["C"] = [replace(RUN, cpu_seconds=seconds) for seconds in (1.0, 2.0, 6.0)]
    created.runs["D"] = [replace(RUN, cpu_seconds=seconds) for seconds in (0.5, 0.5, 1.0)]
    return created


def test_figures_are_medians_with_minimum_and_maximum() -> None:
    cpu = comparison().figures("C")["cpu_us_per_message"]
    assert (cpu.least, cpu.median, cpu.most) == (10_000, 20_000, 60_000)
    assert comparison().figures("D")["messages_per_second"].median == 50


def test_ratios_are_calculated_round_by_round() -> None:
    ratio = comparison().ratios("D")["C"]
    assert (ratio.least, ratio.median, ratio.most) == (2, 4, 6)


def test_calls_are_reported_by_operation() -> None:
    assert comparison().calls("C") == {"PutItem": 1.0, "ReceiveMessage": 0.1}
    report = comparison().report()
    assert report["ways"]["D"]["calls_per_message"]["median"] == pytest.approx(1.1)
    assert report["cpu_ratios"]["C/D"]["median"] == 4


def test_slow_variants_get_a_share_of_the_messages() -> None:
    plan = ComparisonPlan(variants=("A", "B", "C", "E"), messages=4000, rounds=2)
    assert [plan.messages_for(variant) for variant in plan.variants] == [100, 400, 4000, 4000]
    assert plan.total_messages == 17_000
    assert ComparisonPlan(variants=("A",), messages=100, rounds=1).messages_for("A") == 40


def test_figures_of_two_processes_are_combined() -> None:
    other = replace(RUN, seconds=3.0, p99_ms=5.0, rss_mb=90.0, calls={"PutItem": 50})
    both = _combine([RUN, other])
    assert both == replace(
        RUN,
        messages=200,
        seconds=3.0,
        cpu_seconds=1.0,
        calls={"PutItem": 150, "ReceiveMessage": 10},
        connections=8,
        rss_mb=90.0,
    )
    assert _combine([RUN]) is RUN


def test_warm_up_is_excluded() -> None:
    meter = Meter(100, started_at=0.0)
    meter.note_poll()
    meter.durations.add(50.0)
    assert not meter.note_progress(19, {"PutItem": 30})
    assert not meter.note_progress(20, {"PutItem": 40})
    meter.durations.add(0.001)
    assert meter.note_progress(100, {"PutItem": 130, "ReceiveMessage": 8})
    run = meter.figures(tls=False)
    assert run.messages == 80
    assert run.calls == {"PutItem": 90, "ReceiveMessage": 8}
    assert run.p99_ms == pytest.approx(1.0, rel=0.06)


def test_warm_up_is_included_if_too_few_messages_remain() -> None:
    at_once = Meter(100, started_at=0.0)
    at_once.note_poll()
    assert at_once.note_progress(100, {"PutItem": 100})
    assert at_once.figures(tls=False).messages == 100
    less = Meter(100, started_at=0.0)
    less.note_poll()
    assert not less.note_progress(7, {"PutItem": 8})
    assert less.figures(tls=True).messages == 7
    assert less.figures(tls=True).calls == {"PutItem": 8}


def test_process_that_never_polled_or_settled_is_an_error() -> None:
    with pytest.raises(BenchError, match="ended before its first poll"):
        Meter(100, started_at=0.0).figures(tls=False)
    with pytest.raises(BenchError, match="no message was settled"):
        _combine([replace(RUN, messages=0), replace(RUN, messages=0)])
    assert _combine([RUN, replace(RUN, messages=0)]).messages == 100
