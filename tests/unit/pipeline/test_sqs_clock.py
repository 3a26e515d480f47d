"""Tests of the estimate of SQS time."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.simulation.virtual_clock import START, WallClock, simulated
from tests.unit.fakes import received_message
from worker.domain.message import ReceivedMessage
from worker.pipeline.sqs_clock import SQSClock, date_seconds

OFFSETS = pytest.mark.parametrize("seconds", [-172_800, -600, 0, 600, 172_800])


class _Clocks:
    def __init__(self, skew_seconds: float = 0.0, tolerance_seconds: float = 300.0) -> None:
        self.host = WallClock(timedelta(seconds=skew_seconds))
        self.clock = SQSClock(self.host.now, asyncio.get_running_loop().time, tolerance_seconds)

    @property
    def error_seconds(self) -> float:
        return (self.clock.now() - _true()).total_seconds()


def _true() -> datetime:
    return WallClock().now()


def _date(wrong_seconds: float = 0.0) -> str:
    return format_datetime(_true() + timedelta(seconds=wrong_seconds), usegmt=True)


def _first(date: str = "") -> ReceivedMessage:
    """Return a message that is received for the first time, now."""
    return received_message(
        sent_at=_true() - timedelta(hours=1), first_received_at=_true(), date=date
    )


def _again(date: str = "", **changes: Any) -> ReceivedMessage:
    """Return a message that was received before."""
    times = {"sent_at": START - timedelta(hours=2), "first_received_at": START - timedelta(hours=1)}
    return received_message(**{**times, "receive_count": 2, "date": date, **changes})


@pytest.mark.parametrize("seconds", [-172_800, -600, 0, 600])
@simulated
async def test_time_is_that_of_the_date_header_whatever_the_host_clock(
    seconds: float,
) -> None:
    clocks = _Clocks(seconds)
    await asyncio.sleep(0.7)
    clocks.clock.learn(_again(_date()))
    await asyncio.sleep(1000)
    assert -1 <= clocks.error_seconds <= 0


@OFFSETS
@pytest.mark.parametrize("header", ["", "soon", "Thu, 01 Jan 1970 00:00:00 GMT"])
@simulated
async def test_time_is_that_of_a_first_receive_without_a_date_header(
    header: str, seconds: float
) -> None:
    clocks = _Clocks(seconds)
    clocks.clock.learn(_first(header))
    await asyncio.sleep(1000)
    assert clocks.error_seconds == pytest.approx(0, abs=0.001)
    assert bool(clocks.clock.problem) is (abs(seconds) > 300)


@pytest.mark.parametrize("wrong_seconds", [-86_400, 600, 86_400, 3e9])
@simulated
async def test_date_header_contradicted_by_all_other_evidence_is_ignored(
    wrong_seconds: float,
) -> None:
    clocks = _Clocks()
    clocks.clock.learn(_first(_date(wrong_seconds)))
    await asyncio.sleep(5)
    clocks.clock.learn(_again(_date(wrong_seconds)))
    assert clocks.error_seconds == pytest.approx(0, abs=0.001)
    assert clocks.clock.uncertainty == ""


@pytest.mark.parametrize("known", [{}, {"sent_at": START}])
@simulated
async def test_missing_timestamp_does_not_count_as_a_first_receive(known: Any) -> None:
    clocks = _Clocks()
    nothing = datetime.fromtimestamp(0, UTC)
    given = {"sent_at": nothing, "first_received_at": nothing, **known}
    await asyncio.sleep(1000)
    clocks.clock.learn(received_message(**given))
    assert clocks.clock.uncertainty == "SQS time is not known yet"
    assert clocks.clock.problem == ""


@simulated
async def test_implausible_date_header_is_ignored() -> None:
    clocks = _Clocks()
    clocks.clock.learn(_again(_date(86_400)))
    assert clocks.error_seconds == -3600
    assert clocks.clock.uncertainty == "SQS time is not known yet"


@simulated
async def test_time_is_an_advancing_lower_bound_without_header_and_first_receive() -> None:
    clocks = _Clocks()
    clocks.clock.learn(_again())
    await asyncio.sleep(50)
    assert clocks.error_seconds == pytest.approx(-3600, abs=0.001)
    clocks.clock.learn(_again())  # says nothing new
    assert clocks.error_seconds == pytest.approx(-3600, abs=0.001)
    # That it is behind proves nothing of the host's clock, and nothing can be judged by it.
    assert clocks.clock.problem == ""
    assert clocks.clock.uncertainty == "SQS time is not known yet"


@simulated
async def test_slow_host_clock_is_detected_by_a_single_timestamp() -> None:
    clocks = _Clocks(-600)
    clocks.clock.learn(_again(sent_at=START - timedelta(seconds=100)))
    assert clocks.clock.problem == "this host's clock is 500 s behind SQS time; synchronise it"


@simulated
async def test_jump_of_the_host_clock_is_a_problem_until_corrected() -> None:
    clocks = _Clocks()
    clocks.clock.learn(_first())
    for seconds in (-301, 301, 172_800):
        clocks.host.skew = timedelta(seconds=seconds)
        assert f"{abs(seconds)} s" in clocks.clock.problem
    clocks.host.skew = timedelta(seconds=299)
    assert clocks.clock.uncertainty == ""
    assert clocks.error_seconds == pytest.approx(0, abs=0.001)


@simulated
async def test_pause_of_the_monotonic_clock_is_corrected_by_the_next_date_header() -> None:
    clocks = _Clocks()
    clocks.clock.learn(_first())
    hour = 3600.0
    clocks.host.skew = timedelta(seconds=hour)  # both clocks went on while this process stood
    assert clocks.clock.problem
    clocks.clock.learn(_again(_date(hour)))
    assert clocks.clock.uncertainty == ""


@simulated
async def test_tolerance_is_never_below_the_precision() -> None:
    clocks = _Clocks(-5, tolerance_seconds=0)
    clocks.clock.learn(_first(_date()))
    assert clocks.clock.uncertainty == ""


@simulated
async def test_contradiction_is_logged_once_a_minute() -> None:
    clocks = _Clocks(-600)
    with capture_logs() as logs:
        for _ in range(150):
            clocks.clock.learn(_first(_date()))
            await asyncio.sleep(1)
    assert [entry["event"] for entry in logs] == ["clocks differ"] * 3
    assert logs[0]["problem"] == "this host's clock is 600 s behind SQS time; synchronise it"


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Sun, 22 Nov 2026 10:00:00 GMT", START.timestamp()),
        ("Sun, 22 Nov 2026 10:00:00 -0000", START.timestamp()),
        ("", None),
        ("soon", None),
        ("Sun, 32 Nov 2026 10:00:00 GMT", None),
        ("Sun, 22 Nov 99999999999999999999 10:00:00 GMT", None),
    ],
)
def test_invalid_date_header_has_no_time(header: str, seconds: float | None) -> None:
    assert date_seconds(header) == seconds
