"""The counters in Prometheus' text format, read when they are asked for."""

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
from worker.domain.message import OutcomeKind
from worker.errors import Reason
from worker.observability.service_status import ServiceStatus

# OpenTelemetry semantic conventions, messaging.process.duration, and longer: messages are held.
BUCKETS_SECONDS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0,
    300.0, 600.0,
)  # fmt: skip


def exposition(view: ServiceStatus) -> Callable[[], bytes]:
    """Give what writes the metrics, on a registry of its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Figures(view))
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


class _Figures(Collector):
    """Read the service's figures at each scrape; between scrapes they cost nothing."""

    def __init__(self, view: ServiceStatus) -> None:
        self._view = view

    def collect(self) -> Iterator[Metric]:
        """Give every metric, with labels of few values, known before."""
        yield from self._counters()
        yield from self._states()
        yield from self._slots()
        yield self._durations()

    def _counters(self) -> Iterator[Metric]:
        metrics = self._view.metrics
        accounting = metrics.accounting
        yield CounterMetricFamily(
            "aup_messages_received", "Deliveries taken from the queue.", value=accounting.received
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_messages_settled", "Deliveries by what became of them.", labels=["outcome"]
            ),
            ((kind.value, accounting.by_kind[kind]) for kind in OutcomeKind),
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_dead_letters", "Messages that can never be recorded.", labels=["reason"]
            ),
            ((reason.value, accounting.dead_by_reason[reason.value]) for reason in Reason),
        )
        yield _labelled(
            CounterMetricFamily("aup_aws_calls", "Requests to AWS.", labels=["operation"]),
            sorted(metrics.calls.items()),
        )
        yield _labelled(
            CounterMetricFamily(
                "aup_events", "Things that an operator may want to know of.", labels=["event"]
            ),
            sorted(metrics.events.items()),
        )

    def _states(self) -> Iterator[Metric]:
        view = self._view
        gauges: list[tuple[str, str, float]] = [
            ("aup_messages_held", "Deliveries not settled yet.", view.metrics.accounting.held),
            ("aup_books_balanced", "Whether every delivery is accounted for.",
             view.metrics.accounting.is_balanced),
            ("aup_live", "Whether the work gets on.", not view.why_not_live()),
            ("aup_ready", "Whether messages are taken in.", not view.why_not_ready()),
            ("aup_write_concurrency", "Writes to the table that may be under way now.",
             view.write_concurrency),
            ("aup_event_loop_lag_seconds", "How late the event loop was in the last seconds.",
             view.loop_lag_seconds),
        ]  # fmt: skip
        for name, documentation, value in gauges:
            yield GaugeMetricFamily(name, documentation, value=float(value))
        if view.polled_at is not None:
            yield GaugeMetricFamily(
                "aup_last_poll_timestamp_seconds",
                "When a poll was answered last.",
                value=round(view.polled_at, 3),
            )
        build = GaugeMetricFamily(
            "aup_build_info", "What runs.", labels=["version", "python_version"]
        )
        build.add_metric([__version__, platform.python_version()], 1)
        yield build

    def _slots(self) -> Iterator[Metric]:
        slots = self._view.slots
        yield _labelled(
            GaugeMetricFamily("aup_slots", "Room for messages, by its use.", labels=["state"]),
            (
                ("free", slots.free),
                ("polling", slots.in_flight - slots.filled),
                ("filled", slots.filled),
            ),
        )
        yield GaugeMetricFamily(
            "aup_in_flight_bytes",
            "Memory that messages take, or polls under way may bring.",
            value=slots.bytes_in_flight,
        )

    def _durations(self) -> Metric:
        settling = self._view.metrics.settling
        histogram = HistogramMetricFamily(
            "messaging_process_duration_seconds",
            "From the receipt of a delivery to its settlement.",
            labels=[
                "messaging_system", "messaging_operation_name", "messaging_destination_name",
            ],
        )  # fmt: skip
        counts = [str(bound) for bound in BUCKETS_SECONDS] + ["+Inf"]
        reached = settling.cumulative((*BUCKETS_SECONDS, float("inf")))
        histogram.add_metric(
            ["aws_sqs", "process", self._view.queue_name],
            buckets=list(zip(counts, reached, strict=True)),
            sum_value=settling.total_seconds,
        )
        return histogram


FamilyT = CounterMetricFamily | GaugeMetricFamily


def _labelled(family: FamilyT, values: Iterable[tuple[str, float]]) -> FamilyT:
    for label, value in values:
        family.add_metric([label], value)
    return family
