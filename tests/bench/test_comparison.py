"""State what a comparison makes of its trials."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from tests.bench.variants.comparison import Comparison, Plan, _together
from tests.bench.variants.run import Meter, Trial
from worker.errors import BenchError

TRIAL: Final = Trial(
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
PLAN: Final = Plan(ways=("C", "D"), messages=1000, rounds=3)


def comparison() -> Comparison:
    """Three rounds: C at 10, 20, 60 ms a message, D at 5, 5, 10."""
    made = Comparison(PLAN)
    made.trials["C"] = [replace(TRIAL, cpu_seconds=seconds) for seconds in (1.0, 2.0, 6.0)]
    made.trials["D"] = [replace(TRIAL, cpu_seconds=seconds) for seconds in (0.5, 0.5, 1.0)]
    return made


def test_figures_are_medians_with_the_least_and_the_most() -> None:
    cpu = comparison().figures("C")["cpu_us_per_message"]
    assert (cpu.least, cpu.median, cpu.most) == (10_000, 20_000, 60_000)
    assert comparison().figures("D")["messages_per_second"].median == 50


def test_ratios_are_taken_round_by_round() -> None:
    ratio = comparison().ratios("D")["C"]
    assert (ratio.least, ratio.median, ratio.most) == (2, 4, 6)


def test_calls_are_told_by_operation() -> None:
    assert comparison().calls("C") == {"PutItem": 1.0, "ReceiveMessage": 0.1}
    report = comparison().report()
    assert report["ways"]["D"]["calls_per_message"]["median"] == pytest.approx(1.1)
    assert report["cpu_ratios"]["C/D"]["median"] == 4


def test_the_dear_ways_get_a_share_of_the_messages() -> None:
    plan = Plan(ways=("A", "B", "C", "E"), messages=4000, rounds=2)
    assert [plan.messages_for(way) for way in plan.ways] == [100, 400, 4000, 4000]
    assert plan.total_messages == 17_000
    assert Plan(ways=("A",), messages=100, rounds=1).messages_for("A") == 40


def test_two_processes_add_up() -> None:
    other = replace(TRIAL, seconds=3.0, p99_ms=5.0, rss_mb=90.0, calls={"PutItem": 50})
    both = _together([TRIAL, other])
    assert both == replace(
        TRIAL,
        messages=200,
        seconds=3.0,
        cpu_seconds=1.0,
        calls={"PutItem": 150, "ReceiveMessage": 10},
        connections=8,
        rss_mb=90.0,
    )
    assert _together([TRIAL]) is TRIAL


def test_the_warm_up_is_left_out() -> None:
    meter = Meter(100, began_at=0.0)
    meter.polled()
    meter.durations.add(50.0)
    assert not meter.note(19, {"PutItem": 30})
    assert not meter.note(20, {"PutItem": 40})
    meter.durations.add(0.001)
    assert meter.note(100, {"PutItem": 130, "ReceiveMessage": 8})
    trial = meter.trial(tls=False)
    assert trial.messages == 80
    assert trial.calls == {"PutItem": 90, "ReceiveMessage": 8}
    assert trial.p99_ms == pytest.approx(1.0, rel=0.06)


def test_what_is_settled_at_once_or_too_little_for_a_warm_up_is_measured_with_it() -> None:
    at_once = Meter(100, began_at=0.0)
    at_once.polled()
    assert at_once.note(100, {"PutItem": 100})
    assert at_once.trial(tls=False).messages == 100
    less = Meter(100, began_at=0.0)
    less.polled()
    assert not less.note(7, {"PutItem": 8})
    assert less.trial(tls=True).messages == 7
    assert less.trial(tls=True).calls == {"PutItem": 8}


def test_a_process_that_never_polled_or_settled_is_no_measurement() -> None:
    with pytest.raises(BenchError, match="ended before its first poll"):
        Meter(100, began_at=0.0).trial(tls=False)
    with pytest.raises(BenchError, match="no message was settled"):
        _together([replace(TRIAL, messages=0), replace(TRIAL, messages=0)])
    assert _together([TRIAL, replace(TRIAL, messages=0)]).messages == 100
