"""Results of a benchmark, as stored in JSON."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict

from tests.bench.runs import Idle, Run
from tests.bench.scenarios import Scenario, Work
from tests.bench.stub.load import Capacity

_SPREAD: Final = ("cpu_us_per_message", "messages_per_second", "rss_mb", "p50_ms", "p99_ms")


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Measured(_Kept):
    """Medians over rounds, with minimum and maximum of the figures that vary."""

    title: str
    rounds: int
    messages: int
    processes: int
    cpu_us_per_message: float
    messages_per_second: float
    messages_per_cpu_second: float
    calls_per_message: float
    calls_by_operation: dict[str, float]
    connections: int
    tls_handshakes: int
    rss_mb: float
    rss_at: list[tuple[int, float]]
    p50_ms: float
    p99_ms: float
    start_seconds: float
    write_units_per_message: float
    read_units_per_message: float
    sqs_requests_per_message: float
    stub_cpu_us_per_message: float
    spread: dict[str, tuple[float, float]]

    @property
    def connections_per_message(self) -> float:
        """Connections opened per message."""
        return self.connections / self.messages


class Case(_Kept):
    """The worker under one condition.

    Attributes:
        bounds: Maximum messages per second that each setting allows, by Little's law.
    """

    message_kib: float
    sqs_latency_ms: float
    dynamodb_latency_ms: float
    settings: dict[str, str]
    bounds: dict[str, float]
    measured: Measured


class Ratio(_Kept):
    """Ratio of the figures of two scenarios, calculated within each round."""

    median: float
    least: float
    most: float


class SingleMessage(_Kept):
    """Milliseconds from receive to delete of a single message in an idle process."""

    worker_ms: float
    call_for_each_step_ms: float

    @property
    def batching_ms(self) -> float:
        """Milliseconds that the worker adds to one call for each step."""
        return self.worker_ms - self.call_for_each_step_ms


class Idleness(_Kept):
    """Figures of a worker without messages."""

    seconds: float
    calls: int
    calls_per_minute: float
    cpu_percent: float


class Served(_Kept):
    """Cost of an operation to the stub."""

    operation: str
    requests_per_second: float
    cpu_us_per_request: float
    cpu_us_per_message: float


class Peer(_Kept):
    """A consumer of SQS that others maintain, measured in turn with the worker.

    Attributes:
        writes: Whether it writes no item, each on its own, or batches.
        leaves_out: What the worker does for each message and the peer does not.
        cpu_by_ours: CPU per message by that of the worker, within each round.
    """

    name: str
    writes: Literal["none", "each", "batch"]
    leaves_out: str
    cpu_by_ours: Ratio
    measured: Measured


class Results(_Kept):
    """All results; parts that were not run are empty.

    Attributes:
        baseline_ratio: CPU per message by that of release 0.1.0.
        help_cpu_seconds: CPU of `aup-worker --help`.
        not_run: Reason for each program that could not be measured, by title.
    """

    measured_on: str
    machine: dict[str, str | int]
    versions: dict[str, str]
    scenarios: dict[str, Measured] = {}
    ratios: dict[str, Ratio] = {}
    baseline_ratio: float | None = None
    growth: list[Case] = []
    sizes: list[Case] = []
    latencies: list[Case] = []
    idle: Idleness | None = None
    lone: SingleMessage | None = None
    help_cpu_seconds: float | None = None
    peers: list[Peer] = []
    not_run: dict[str, str] = {}
    stub: list[Served] = []
    cost_per_million_messages: dict[str, dict[str, float]] = {}


def summarize(scenario: Scenario, runs: Sequence[Run]) -> Measured:
    """Return medians over the runs of one scenario.

    Args:
        scenario: The scenario.
        runs: One or more runs.
    """

    def middle(name: str) -> float:
        return median(float(getattr(run, name)) for run in runs)

    operations = sorted({operation for run in runs for operation in run.calls})
    return Measured(
        title=scenario.title,
        rounds=len(runs),
        messages=runs[0].messages,
        processes=scenario.processes,
        cpu_us_per_message=middle("cpu_us_per_message"),
        messages_per_second=middle("messages_per_second"),
        messages_per_cpu_second=middle("messages_per_cpu_second"),
        calls_per_message=middle("calls_per_message"),
        calls_by_operation={
            name: median(run.calls.get(name, 0.0) for run in runs) for name in operations
        },
        connections=round(middle("connections")),
        tls_handshakes=round(middle("tls_handshakes")),
        rss_mb=middle("rss_mb"),
        rss_at=list(runs[-1].rss_at),
        p50_ms=middle("p50_ms"),
        p99_ms=middle("p99_ms"),
        start_seconds=middle("start_seconds"),
        write_units_per_message=middle("write_units_per_message"),
        read_units_per_message=middle("read_units_per_message"),
        sqs_requests_per_message=middle("sqs_requests_per_message"),
        stub_cpu_us_per_message=middle("stub_cpu_us_per_message"),
        spread={name: _ends([float(getattr(run, name)) for run in runs]) for name in _SPREAD},
    )


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def case(work: Work, bounds: dict[str, float], measured: Measured) -> Case:
    """Return a condition with its results."""
    return Case(
        message_kib=work.message_kib,
        sqs_latency_ms=work.sqs_latency_ms,
        dynamodb_latency_ms=work.dynamodb_latency_ms,
        settings=dict(work.settings),
        bounds=bounds,
        measured=measured,
    )


def ratio(over: Sequence[float], under: Sequence[float]) -> Ratio:
    """Divide figures round by round."""
    quotients = [one / other for one, other in zip(over, under, strict=True)]
    return Ratio(median=median(quotients), least=min(quotients), most=max(quotients))


def idleness(measured_idle: Idle) -> Idleness:
    """Return the figures of an idle worker for JSON."""
    return Idleness(
        seconds=measured_idle.seconds,
        calls=measured_idle.calls,
        calls_per_minute=measured_idle.calls_per_minute,
        cpu_percent=measured_idle.cpu_percent,
    )


def served(capacity: Capacity) -> Served:
    """Return the cost of an operation to the stub for JSON."""
    return Served(
        operation=capacity.operation,
        requests_per_second=capacity.requests_per_second,
        cpu_us_per_request=capacity.cpu_us_per_request,
        cpu_us_per_message=capacity.cpu_us_per_message,
    )
