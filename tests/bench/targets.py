"""Targets for the figures, and whether they are met."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from tests.bench.harness import pools
from tests.bench.results import Case, Measured, Peer, Results
from tests.bench.scenarios import SMALLEST_KIB

_HOT_CALLS: Final = ("ReceiveMessage", "DeleteMessageBatch", "BatchExecuteStatement")
# With fewer cores, the stub competes with two workers.
_CORES_FOR_TWO: Final = 3
# The ratio of two scenarios, what it is, and its limit.
_MOST: Final = (
    ("D/baseline", "D relative to release 0.1.0", 0.55),
    ("D-extra/baseline-extra", "D, 4 KiB with unknown fields, relative to release 0.1.0", 0.65),
    ("D-tls/baseline-tls", "D, TLS, relative to release 0.1.0", 0.55),
)
_LEAST: Final = (("A/D", 1_000), ("B/D", 50), ("C/D", 26))
# Messages per second of one process by latency of SQS and DynamoDB, with the default settings.
_RATES: Final = (((8.0, 5.0), 15_000), ((50.0, 50.0), 5_000))


@dataclass(frozen=True)
class Target:
    """A figure and its limit.

    Attributes:
        least: Whether `bound` is a minimum instead of a maximum.
        unit: Suffix of the figures.
    """

    what: str
    value: float
    bound: float
    least: bool = False
    unit: str = ""

    @property
    def met(self) -> bool:
        """Whether the figure is within its limit, except for rounding."""
        slack = 1e-9 * abs(self.bound)
        if self.least:
            return self.value >= self.bound - slack
        return self.value <= self.bound + slack


def targets(results: Results) -> list[Target]:
    """Return the targets for all parts that were run."""
    checked = [
        *_ratios(results),
        *_peers(results.peers),
        *_of_the_worker(results),
        *_connections(results),
        *_growth(results.growth),
        *_latency(results.latencies),
    ]
    if results.help_cpu_seconds is not None:
        checked.append(Target("CPU of `--help`", results.help_cpu_seconds, 0.15, unit=" s"))
    if results.idle is not None:
        checked += [
            Target("idle: calls per minute", results.idle.calls_per_minute, 4),
            Target("idle: CPU", results.idle.cpu_percent, 0.5, unit=" %"),
        ]
    if results.lone is not None:
        added_ms = results.lone.batching_ms
        checked.append(Target("single message: added by batching", added_ms, 2, unit=" ms"))
    return checked


def _of_the_worker(results: Results) -> Iterator[Target]:
    worker = results.scenarios.get("D")
    if worker is None:
        return
    yield from calls(worker)
    yield Target("write units per message under 1 KB", worker.write_units_per_message, 1)
    yield Target("read units per message", worker.read_units_per_message, 0.001)
    as_shipped = [each.measured for each in results.latencies if each.message_kib == SMALLEST_KIB]
    rss_mb = max(measured.rss_mb for measured in (worker, *as_shipped))
    yield Target("peak RSS", rss_mb, 110, unit=" MB")
    yield Target("process start to first poll", worker.start_seconds, 0.6, unit=" s")


def calls(worker: Measured) -> list[Target]:
    """Return the targets for calls per message under load."""
    by_operation = worker.calls_by_operation
    rest = sum(rate for name, rate in by_operation.items() if name not in _HOT_CALLS)
    return [
        Target("calls per message, D", worker.calls_per_message, 0.245),
        Target("calls per message other than receive, delete and write", rest, 0.01),
    ]


def _ratios(results: Results) -> Iterator[Target]:
    for name, what, most in _MOST:
        found = results.ratios.get(f"cpu {name}")
        if found is not None:
            yield Target(f"CPU per message, {what}", found.median, most, unit=" times")
    for name, least in _LEAST:
        found = results.ratios.get(f"cpu {name}")
        if found is not None:
            what = f"CPU per message, {name[0]} relative to D"
            yield Target(what, found.median, least, least=True, unit=" times")
    enough = int(results.machine["cores"]) >= _CORES_FOR_TWO
    found = results.ratios.get("wall E/D" if enough else "cores E/D")
    if found is not None:
        what = (
            "two processes" if enough else "two processes, with enough cores for them and the stub"
        )
        yield Target(what, found.median, 1.9, least=True, unit=" times")


def _peers(peers: list[Peer]) -> Iterator[Target]:
    for peer in peers:
        if peer.writes == "none":
            what = f"CPU per message, ours relative to {peer.measured.title}"
            yield Target(what, 1 / peer.cpu_by_ours.median, 1, unit=" times")
    # The first is the worker.
    batched = [peer for peer in peers[1:] if peer.writes == "batch"]
    if batched:
        best = min(batched, key=lambda peer: peer.cpu_by_ours.median)
        what = f"CPU per message, {best.measured.title}, relative to ours"
        yield Target(what, best.cpu_by_ours.median, 3, least=True, unit=" times")


def _connections(results: Results) -> Iterator[Target]:
    runs = [each.measured for each in results.growth] or [
        measured for name, measured in results.scenarios.items() if name == "D"
    ]
    if not runs:
        return
    largest = max(runs, key=lambda measured: measured.messages)
    yield connection_target(largest)
    for name in ("A", "B"):
        simpler_run = results.scenarios.get(name)
        if simpler_run is not None and largest.messages >= max(each.messages for each in runs):
            # Per message, because the connections of the simpler variants grow with their number.
            saved = 1 - largest.connections_per_message / simpler_run.connections_per_message
            what = f"connections saved compared with {name}, {largest.messages:,} messages"
            yield Target(what, saved * 100, 99.9, least=True, unit=" %")


def connection_target(worker: Measured) -> Target:
    """Return the target that each connection of the pools is opened at most once."""
    return Target(f"connections for {worker.messages:,} messages", worker.connections, pools({}))


def _growth(growth: list[Case]) -> Iterator[Target]:
    if len(growth) < 2:
        return
    small, large = growth[0].measured, growth[-1].measured
    slower = large.cpu_us_per_message / small.cpu_us_per_message
    yield Target(
        f"CPU per message, {large.messages:,} messages relative to {small.messages:,}",
        slower,
        1.1,
        unit=" times",
    )
    before, after = large.rss_at[-2], large.rss_at[-1]
    drift = (after[1] / before[1] - 1) * 100
    what = f"RSS drift from {before[0]:,} to {after[0]:,} messages"
    yield Target(what, drift, 5, unit=" %")


def _latency(latencies: list[Case]) -> Iterator[Target]:
    for (sqs_ms, dynamodb_ms), least in _RATES:
        for each in latencies:
            if (each.sqs_latency_ms, each.dynamodb_latency_ms) == (sqs_ms, dynamodb_ms):
                latency = f"{sqs_ms:g} ms latency of SQS and {dynamodb_ms:g} ms of DynamoDB"
                rate = each.measured.messages_per_second
                yield Target(f"messages per second with {latency}", rate, least, least=True)
