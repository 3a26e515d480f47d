"""Metrics in Prometheus' text format."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from worker import __version__
from worker.domain.outcome import OutcomeKind
from worker.errors import Reason
from worker.observability.service_status import ServiceStatus

# OpenTelemetry semantic conventions, messaging.process.duration; longer, as messages can be held.
BUCKETS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 600.0,
)  # fmt: skip


def exposition(status: ServiceStatus) -> Callable[[], bytes]:
    """Return a function that renders the metrics, with its own registry."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_ServiceCollector(status))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


class _ServiceCollector(Collector):
    """Collector that reads the status of the service at each scrape."""

    def __init__(self, status: ServiceStatus) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        yield from self._counters()
        yield from self._states()
        yield from self._slots()
        yield self._durations()

    def _counters(self) -> Iterator[Metric]:
        metrics = self._status.metrics
        accounting = metrics.accounting
        yield CounterMetricFamily(
            "aup_messages_received", "Messages received from the queue.", value=accounting.received
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_messages_settled", "Messages settled, by outcome.", labels=["outcome"]
            ),
            ((kind.value, accounting.by_kind[kind]) for kind in OutcomeKind),
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_dead_letters", "Messages dead-lettered, by reason.", labels=["reason"]
            ),
            ((reason.value, accounting.dead_by_reason[reason.value]) for reason in Reason),
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_aws_calls", "Calls to AWS, by operation.", labels=["operation"]
            ),
            sorted(metrics.calls.items()),
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_events", "Events of interest to operators, by name.", labels=["event"]
            ),
            sorted(metrics.events.items()),
        )

    def _states(self) -> Iterator[Metric]:
        status = self._status
        accounting = status.metrics.accounting
        gauges: list[tuple[str, str, float]] = [
            ("aup_messages_held", "Messages received and not settled yet.", accounting.held),
            ("aup_books_balanced", "1 if every received message is accounted for.",
             accounting.is_balanced),
            ("aup_live", "1 if the service is live.", not status.why_not_live()),
            ("aup_ready", "1 if the service receives messages.", not status.why_not_ready()),
            ("aup_write_concurrency", "Current limit of concurrent writes to the table.",
             status.write_concurrency),
            ("aup_event_loop_lag_seconds", "Longest recent delay of the event loop.",
             status.loop_lag_seconds),
        ]  # fmt: skip
        for name, documentation, value in gauges:
            yield GaugeMetricFamily(name, documentation, value=float(value))
        if status.polled_at is not None:
            yield GaugeMetricFamily(
                "aup_last_poll_timestamp_seconds",
                "Unix time of the last response to a poll.",
                value=round(status.polled_at, 3),
            )
        build = GaugeMetricFamily(
            "aup_build_info",
            "Versions of the service and of Python.",
            labels=["version", "python_version"],
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

    def _slots(self) -> Iterator[Metric]:
        slots = self._status.slots
        yield _labelled(
            GaugeMetricFamily("aup_slots", "Slots for messages, by state.", labels=["state"]),
            (
                ("free", slots.free),
                ("polling", slots.in_flight - slots.filled),
                ("filled", slots.filled),
            ),
        )
        yield GaugeMetricFamily(
            "aup_in_flight_bytes",
            "Size of messages in flight and of reservations of polls in flight.",
            value=slots.bytes_in_flight,
        )

    def _durations(self) -> Metric:
        settling = self._status.metrics.settling
        histogram = HistogramMetricFamily(
            "messaging_process_duration_seconds",
            "Time from receipt to settlement of a message.",
            labels=[
                "messaging_system", "messaging_operation_name", "messaging_destination_name",
            ],
        )  # fmt: skip
        bounds = [str(bound) for bound in BUCKETS_SECONDS] + ["+Inf"]
        counts = settling.cumulative((*BUCKETS_SECONDS, float("inf")))
        histogram.add_metric(
            ["aws_sqs", "process", self._status.queue_name],
            buckets=list(zip(bounds, counts, strict=True)),
            sum_value=settling.total_seconds,
        )
        return histogram


FamilyT = CounterMetricFamily | GaugeMetricFamily


def _labelled(family: FamilyT, values: Iterable[tuple[str, float]]) -> FamilyT:
    for label, value in values:
        family.add_metric([label], value)
    return family
