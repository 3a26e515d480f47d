"""One run, and what it tells."""

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

_SHIPPED: Final[Mapping[str, str]] = MappingProxyType({})


@dataclass(frozen=True)
class Run:
    """The figures of one run, after its warm-up where nothing else is said.

    Attributes:
        messages: settled in all.
        calls: per message, by operation.
        connections: opened in all, from the start.
        tls_handshakes: in all, from the start.
        rss_mb: peak of the largest process.
        rss_at: settled messages and resident memory at each mark, from the end of the warm-up on.
        p50_ms: from the answer that hands a message out to the request that deletes it.
        start_seconds: from the start of the process to its first poll.
        sqs_requests_per_message: as they are billed.
        read_units_per_message: from the start.
        stub_cpu_us_per_message: what the stub itself used.
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
        """All calls together."""
        return sum(self.calls.values())

    @property
    def messages_per_cpu_second(self) -> float:
        """What a whole core would do."""
        return 1e6 / self.cpu_us_per_message


def carry_out(stub: Stub, scenario: Scenario, work: Work) -> Run:
    """Let a scenario do its work once.

    Raises:
        RunError: it did not end well, or something was written or deleted twice or never.
    """
    with fleet(stub, scenario, work) as processes:
        first_poll_at = processes.wait_for_first_polls().figures.first_poll_at
        stub.offer(work.messages)
        between = [mark for mark in work.marks if work.warm_messages < mark < work.messages]
        at = [work.warm_messages, *sorted(between), work.messages]
        marks = [processes.wait(settled=settled) for settled in at]
        ended = stub.figures(since=marks[0].figures.settled)
        peak = processes.peak_rss_mb()
    _check(ended, work)
    start_seconds = (first_poll_at or 0.0) - processes.started_at
    return _run(marks, ended, peak, start_seconds)


def _check(figures: Figures, work: Work) -> None:
    faults = {
        "settled": figures.settled != work.messages,
        "items_written": figures.items_written != work.messages,
        "settled_twice": figures.settled_twice > 0,
        "unknown": "unknown" in figures.calls,
    }
    if any(faults.values()):
        wrong = ", ".join(name for name, is_wrong in faults.items() if is_wrong)
        raise RunError(f"{work.messages} messages, but wrong: {wrong} in {figures}")


def _run(marks: list[Mark], ended: Figures, peak: float, start_seconds: float) -> Run:
    first, last = marks[0], marks[-1]
    settled = last.figures.settled - first.figures.settled
    if not settled:
        raise RunError("all was settled at once, and nothing measured: give more messages")
    seconds = last.figures.at - first.figures.at
    stub_cpu = last.figures.stub_cpu_seconds - first.figures.stub_cpu_seconds
    units = ended.units_weighed / ended.items_weighed
    return Run(
        messages=ended.settled,
        seconds=seconds,
        cpu_us_per_message=(last.figures.cpu_seconds - first.figures.cpu_seconds) / settled * 1e6,
        messages_per_second=settled / seconds,
        calls={
            operation: (count - first.figures.calls.get(operation, 0)) / settled
            for operation, count in sorted(last.figures.calls.items())
            if count > first.figures.calls.get(operation, 0)
        },
        connections=ended.connections,
        tls_handshakes=ended.tls_handshakes,
        rss_mb=peak,
        rss_at=tuple((mark.figures.settled, mark.rss_mb) for mark in marks),
        p50_ms=(ended.p50_seconds or 0.0) * 1000,
        p99_ms=(ended.p99_seconds or 0.0) * 1000,
        start_seconds=start_seconds,
        write_units_per_message=ended.items_written / ended.settled * units,
        read_units_per_message=ended.calls.get("GetItem", 0) / ended.settled,
        sqs_requests_per_message=(last.figures.sqs_request_units - first.figures.sqs_request_units)
        / settled,
        stub_cpu_us_per_message=stub_cpu / settled * 1e6,
    )


@dataclass(frozen=True)
class Idle:
    """A worker without messages.

    Attributes:
        seconds: how long it was watched.
    """

    seconds: float
    calls: int
    cpu_percent: float

    @property
    def calls_per_minute(self) -> float:
        """Calls of every kind."""
        return self.calls * 60 / self.seconds


def watch_idle(
    stub: Stub, scenario: Scenario, seconds: float, settings: Mapping[str, str] = _SHIPPED
) -> Idle:
    """Watch a worker that has nothing to do, once it polls."""
    with fleet(stub, scenario, Work(messages=0, settings=settings)) as processes:
        before = processes.wait_for_first_polls()
        time.sleep(seconds)
        after = processes.wait()
    passed = after.figures.at - before.figures.at
    calls = sum(after.figures.calls.values()) - sum(before.figures.calls.values())
    cpu = after.figures.cpu_seconds - before.figures.cpu_seconds
    return Idle(passed, calls, cpu / passed * 100)


def carry_alone(
    stub: Stub, scenario: Scenario, messages: int, settings: Mapping[str, str] = _SHIPPED
) -> float:
    """Give messages one at a time to a process that waits.

    Args:
        stub: hands them out.
        scenario: what runs.
        messages: how many; the first tenth is warm-up.
        settings: of the worker, beside its defaults.

    Returns:
        The median of milliseconds from handing out to delete.
    """
    work = Work(messages, settings=settings)
    with fleet(stub, scenario, work) as processes:
        return median(_alone(stub, processes, messages))


def _alone(stub: Stub, processes: Fleet, messages: int) -> list[float]:
    milliseconds = []
    for number in range(messages):
        processes.wait_for_first_polls()
        stub.offer(1)
        processes.wait(settled=number + 1)
        seconds = stub.figures(since=number).p50_seconds
        milliseconds.append((seconds or 0.0) * 1000)
    return milliseconds[messages // 10 :]
