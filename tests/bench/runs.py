"""Runs of a scenario and their figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from types import MappingProxyType
from typing import Final

from tests.bench.fleet import Fleet, Mark, RunError, fleet
from tests.bench.scenarios import Scenario, Work
from tests.bench.stub.launch import Figures, Stub

_DEFAULTS: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Run:
    """Figures of one run, without its warm-up unless stated otherwise.

    Attributes:
        messages: Settled messages, including the warm-up.
        calls: Calls per message by operation.
        connections: Connections opened, including the warm-up.
        tls_handshakes: TLS handshakes, including the warm-up.
        rss_mb: Peak memory of the largest process.
        rss_at: Settled messages and resident memory at each mark, from the end of the warm-up.
        p50_ms: Time from the response that contains a message to the request that deletes it.
        start_seconds: Time from the start of the process to its first poll.
        sqs_requests_per_message: Billed requests.
        read_units_per_message: Read units, including the warm-up.
        stub_cpu_us_per_message: CPU of the stub.
    """

    messages: int
    seconds: float
    cpu_us_per_message: float
    messages_per_second: float
    calls: dict[str, float]
    connections: int
    tls_handshakes: int
    rss_mb: float
    rss_at: tuple[tuple[int, float], ...]
    p50_ms: float
    p99_ms: float
    start_seconds: float
    write_units_per_message: float
    read_units_per_message: float
    sqs_requests_per_message: float
    stub_cpu_us_per_message: float

    @property
    def calls_per_message(self) -> float:
        """Calls of all operations per message."""
        return sum(self.calls.values())

    @property
    def messages_per_cpu_second(self) -> float:
        """Messages per second of a fully used core."""
        return 1e6 / self.cpu_us_per_message


def run_scenario(stub: Stub, scenario: Scenario, work: Work) -> Run:
    """Run a scenario once.

    Raises:
        RunError: The run failed, or a message was written or deleted twice or never.
    """
    with fleet(stub, scenario, work) as processes:
        first_poll_at = processes.wait_for_first_polls().figures.first_poll_at
        stub.offer(work.messages)
        between = [mark for mark in work.marks if work.warm_messages < mark < work.messages]
        at = [work.warm_messages, *sorted(between), work.messages]
        marks = [processes.wait(settled=settled) for settled in at]
        final = stub.figures(since=marks[0].figures.settled)
        peak = processes.peak_rss_mb()
    _check(final, work, written=work.messages if scenario.writes else 0)
    start_seconds = (first_poll_at or 0.0) - processes.started_at
    return _run(marks, final, peak, start_seconds)


def _check(figures: Figures, work: Work, *, written: int) -> None:
    faults = {
        "settled": figures.settled != work.messages,
        "items_written": figures.items_written != written,
        "settled_twice": figures.settled_twice > 0,
        "unknown": "unknown" in figures.calls,
    }
    if any(faults.values()):
        wrong = ", ".join(name for name, is_wrong in faults.items() if is_wrong)
        raise RunError(f"{work.messages} messages, but wrong {wrong}: {figures}")


def _run(marks: list[Mark], final: Figures, peak: float, start_seconds: float) -> Run:
    first, last = marks[0], marks[-1]
    settled = last.figures.settled - first.figures.settled
    if not settled:
        raise RunError(
            "all messages were settled at once, so nothing was measured: use more messages"
        )
    seconds = last.figures.at - first.figures.at
    stub_cpu = last.figures.stub_cpu_seconds - first.figures.stub_cpu_seconds
    units = final.units_weighed / max(1, final.items_weighed)
    return Run(
        messages=final.settled,
        seconds=seconds,
        cpu_us_per_message=(last.figures.cpu_seconds - first.figures.cpu_seconds) / settled * 1e6,
        messages_per_second=settled / seconds,
        calls={
            operation: (count - first.figures.calls.get(operation, 0)) / settled
            for operation, count in sorted(last.figures.calls.items())
            if count > first.figures.calls.get(operation, 0)
        },
        connections=final.connections,
        tls_handshakes=final.tls_handshakes,
        rss_mb=peak,
        rss_at=tuple((mark.figures.settled, mark.rss_mb) for mark in marks),
        p50_ms=(final.p50_seconds or 0.0) * 1000,
        p99_ms=(final.p99_seconds or 0.0) * 1000,
        start_seconds=start_seconds,
        write_units_per_message=final.items_written / final.settled * units,
        read_units_per_message=final.calls.get("GetItem", 0) / final.settled,
        sqs_requests_per_message=(last.figures.sqs_request_units - first.figures.sqs_request_units)
        / settled,
        stub_cpu_us_per_message=stub_cpu / settled * 1e6,
    )


@dataclass(frozen=True)
class Idle:
    """A worker without messages.

    Attributes:
        seconds: Length of the measurement.
    """

    seconds: float
    calls: int
    cpu_percent: float

    @property
    def calls_per_minute(self) -> float:
        """Calls of all operations per minute."""
        return self.calls * 60 / self.seconds


def measure_idle(
    stub: Stub, scenario: Scenario, seconds: float, settings: Mapping[str, str] = _DEFAULTS
) -> Idle:
    """Measure a worker without messages, after its first poll has started."""
    with fleet(stub, scenario, Work(messages=0, settings=settings)) as processes:
        before = processes.wait_for_first_polls()
        time.sleep(seconds)
        after = processes.wait()
    passed = after.figures.at - before.figures.at
    calls = sum(after.figures.calls.values()) - sum(before.figures.calls.values())
    cpu = after.figures.cpu_seconds - before.figures.cpu_seconds
    return Idle(passed, calls, cpu / passed * 100)


def measure_single_messages(
    stub: Stub, scenario: Scenario, messages: int, settings: Mapping[str, str] = _DEFAULTS
) -> float:
    """Send messages one at a time to an idle process.

    Args:
        stub: The stub that delivers them.
        scenario: The scenario to run.
        messages: Number of messages; the first tenth is warm-up.
        settings: Settings of the worker that differ from its defaults.

    Returns:
        Median milliseconds from receive to delete.
    """
    work = Work(messages, settings=settings)
    with fleet(stub, scenario, work) as processes:
        return median(_single_message_durations(stub, processes, messages))


def _single_message_durations(stub: Stub, processes: Fleet, messages: int) -> list[float]:
    milliseconds = []
    for number in range(messages):
        processes.wait_for_first_polls()
        stub.offer(1)
        processes.wait(settled=number + 1)
        seconds = stub.figures(since=number).p50_seconds
        milliseconds.append((seconds or 0.0) * 1000)
    return milliseconds[messages // 10 :]
