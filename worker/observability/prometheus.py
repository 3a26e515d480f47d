"""Metrics in Prometheus' text format."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker import __version__
from worker.domain.outcome import OutcomeKind
from worker.errors import Reason
from worker.observability.service_status import ServiceStatus, SlotFigures
from worker.pipeline.metrics import Metrics

# OpenTelemetry semantic conventions, messaging.process.duration; longer, as messages can be held.
BUCKETS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 600.0,
)  # fmt: skip


def exposition(status: ServiceStatus) -> Callable[[], bytes]:
    """Return a function that renders the metrics, with its own registry."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ServiceCollector(status))
    if status.processes:
        registry.register(_ProcessesCollector(status))
    else:
        ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


class _ServiceCollector(Collector):
    """Collector that reads the status of the service at each scrape."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from _counters(self._status.metrics)
        yield from _gauges(self._status)
        yield from _slots(self._status.slots)
        yield _durations(self._status)


class _ProcessesCollector(Collector):
    """Collector of the figures of several processes, labelled with their numbers.

    The metrics of the operating system, such as `process_resident_memory_bytes`, include those of
    the parent, labelled `parent`. Their counters continue when a process is restarted.
    """

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status
        # The last value of each counter and, below it, the sum of those of earlier processes.
        self._last: dict[tuple[str, str], float] = {}
        self._earlier: dict[tuple[str, str], float] = {}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of every process."""
        processes = self._status.processes
        yield _labelled(
            GaugeMetricFamily, "aup_process_ready", "1 if the process receives messages.",
            {each.number: each.is_ready for each in processes},
        )  # fmt: skip
        yield _labelled(
            GaugeMetricFamily, "aup_process_messages_held", "Messages that the process holds.",
            {each.number: each.held for each in processes},
        )  # fmt: skip
        yield _labelled(
            GaugeMetricFamily, "aup_process_event_loop_lag_seconds",
            "Longest recent delay of the event loop of the process.",
            {each.number: each.loop_lag_seconds for each in processes},
        )  # fmt: skip
        yield _labelled(
            CounterMetricFamily, "aup_process_starts", "How often the process was started.",
            {each.number: each.starts for each in processes},
        )  # fmt: skip
        ids = {str(each.number): each.process_id for each in processes if each.process_id}
        yield from self._of_the_system({"parent": os.getpid(), **ids})

    def _of_the_system(self, ids: Mapping[str, int]) -> Iterator[Metric]:
        families: dict[str, Metric] = {}
        for label, process_id in ids.items():
            for family in ProcessCollector(pid=partial(int, process_id), registry=None).collect():
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    value = sample.value
                    if family.type == "counter":
                        value = self._continued((sample.name, label), value)
                    known.add_sample(sample.name, {"process": label}, value)
        yield from families.values()

    def _continued(self, key: tuple[str, str], value: float) -> float:
        last = self._last.get(key, 0.0)
        if value < last:
            self._earlier[key] = self._earlier.get(key, 0.0) + last
        self._last[key] = value
        return value + self._earlier.get(key, 0.0)


def _labelled(
    kind: type[GaugeMetricFamily | CounterMetricFamily],
    name: str,
    documentation: str,
    values: Mapping[int, float],
) -> Metric:
    family = kind(name, documentation, labels=["process"])
    for number, value in values.items():
        family.add_metric([str(number)], float(value))
    return family


def _counters(metrics: Metrics) -> Iterator[Metric]:
    accounting = metrics.accounting
    yield CounterMetricFamily(
        "aup_messages_received", "Messages received from the queue.", value=accounting.received
    )
    yield CounterMetricFamily(
        "aup_messages_abandoned",
        "Messages held by processes that ended.",
        value=accounting.abandoned,
    )
    outcomes = [(kind.value, accounting.by_kind[kind]) for kind in OutcomeKind]
    reasons = [(each.value, accounting.dead_by_reason[each.value]) for each in Reason]
    calls, events = sorted(metrics.calls.items()), sorted(metrics.events.items())
    for name, documentation, label, counts in (
        ("aup_messages_settled", "Messages settled, by outcome.", "outcome", outcomes),
        ("aup_dead_letters", "Messages dead-lettered, by reason.", "reason", reasons),
        ("aup_aws_calls", "Calls to AWS, by operation.", "operation", calls),
        (
            "aup_events",
            "Events of interest to operators, by name.",
            "event",
            events,
        ),
    ):
        family = CounterMetricFamily(name, documentation, labels=[label])
        for value, count in counts:
            family.add_metric([value], count)
        yield family


def _gauges(status: ServiceStatus) -> Iterator[Metric]:
    accounting = status.metrics.accounting
    gauges: list[tuple[str, str, float]] = [
        ("aup_messages_held", "Messages received and not settled yet.", accounting.held),
        ("aup_books_balanced", "1 if every received message is accounted for.",
         accounting.is_balanced),
        ("aup_started", "1 once the checks at start passed and a poll got a response.",
         not status.why_not_started()),
        ("aup_live", "1 if the service is live.", not status.why_not_live()),
        ("aup_ready", "1 if the service receives messages.", not status.why_not_ready()),
        ("aup_write_concurrency", "Current limit of concurrent writes to the table.",
         status.write_concurrency()),
        ("aup_event_loop_lag_seconds", "Longest recent delay of the event loop.",
         status.loop_lag_seconds),
    ]  # fmt: skip
    if status.polled_at is not None:
        polled_at = round(status.polled_at, 3)
        documentation = "Unix time of the last response to a poll."
        gauges.append(("aup_last_poll_timestamp_seconds", documentation, polled_at))
    for name, documentation, value in gauges:
        yield GaugeMetricFamily(name, documentation, value=float(value))
    versions = {"version": __version__, "python_version": platform.python_version()}
    yield InfoMetricFamily("aup_build", "Versions of the service and of Python.", value=versions)


def _slots(slots: SlotFigures) -> Iterator[Metric]:
    states = GaugeMetricFamily("aup_slots", "Slots for messages, by state.", labels=["state"])
    states.add_metric(["free"], slots.free)
    states.add_metric(["polling"], slots.in_flight - slots.filled)
    states.add_metric(["filled"], slots.filled)
    yield states
    yield GaugeMetricFamily(
        "aup_in_flight_bytes",
        "Size of messages in flight and of reservations of polls in flight.",
        value=slots.bytes_in_flight,
    )


def _durations(status: ServiceStatus) -> Metric:
    settling = status.metrics.settling
    histogram = HistogramMetricFamily(
        "messaging_process_duration_seconds",
        "Time from receipt to settlement of a message.",
        labels=["messaging_system", "messaging_operation_name", "messaging_destination_name"],
    )
    bounds = [*map(str, BUCKETS_SECONDS), "+Inf"]
    counts = settling.cumulative((*BUCKETS_SECONDS, float("inf")))
    histogram.add_metric(
        ["aws_sqs", "process", status.queue_name],
        buckets=list(zip(bounds, counts, strict=True)),
        sum_value=settling.total_seconds,
    )
    return histogram
