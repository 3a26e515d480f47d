"""The summary as a line of CloudWatch's Embedded Metric Format, which needs no agent.

On stdout: the service writes nothing else there, so that each line is one document however the log
is written; the log drivers of ECS, Docker and systemd take both streams.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final, TextIO

import structlog

from worker.domain.message import OutcomeKind
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Metrics
from worker.runtime.streams import LineWriter

_log: Final = structlog.get_logger()

# Names and units of the metrics: CloudWatch API reference, MetricDatum.
_UNITS: Final = {
    "Received": "Count",
    "Recorded": "Count",
    "Duplicates": "Count",
    "DeadLettered": "Count",
    "Returned": "Count",
    "AWSCalls": "Count",
    "Held": "Count",
    "SlotsFree": "Count",
    "WriteConcurrency": "Count",
    "Ready": "None",
    "BooksBalanced": "None",
    "EventLoopLag": "Seconds",
    "ReceivedRate": "Count/Second",
    "SettlingP50": "Milliseconds",
    "SettlingP99": "Milliseconds",
}


class EMF:
    """Write what happened since the last line; gauges as they are.

    Args:
        view: what is told.
        stream: takes the lines.
        now: gives Unix seconds.
    """

    def __init__(
        self,
        view: ServiceStatus,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._view = view
        self._lines = LineWriter(stream or sys.stdout)
        self._now = now
        self._told_at = now()
        self._told = _Copy(Metrics())
        self._failed = False

    def write(self, event: str) -> None:
        """Write a line.

        A line that cannot be written is logged once, and its figures are in the next one.

        Args:
            event: `summary` or `stopped`.
        """
        told = self._told, self._told_at
        if self._lines.write(json.dumps(self.document(event), ensure_ascii=False)):
            self._failed = False
            return
        self._told, self._told_at = told
        if not self._failed:
            self._failed = True
            _log.warning("metrics not written to stdout", hint="they are in the next line")

    def document(self, event: str) -> dict[str, Any]:
        """Give the figures since the last document, after the specification of EMF."""
        now, current = self._now(), _Copy(self._view.metrics)
        values = self._values(current, max(now - self._told_at, 1e-3))
        told, self._told, self._told_at = self._told, current, now
        directive = {
            "Namespace": self._view.settings.emf_namespace,
            "Dimensions": [["queue"]],
            "Metrics": [{"Name": name, "Unit": _UNITS[name]} for name in values],
        }
        return {
            "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]},
            "event": event,
            "queue": self._view.queue_name,
            **values,
            "not_ready": self._view.why_not_ready(),
            "dead_by_reason": _sorted(current.dead - told.dead),
            "calls": _sorted(current.calls - told.calls),
            "events": _sorted(current.events - told.events),
            **self._view.identity,
        }

    def _values(self, current: _Copy, seconds: float) -> dict[str, float]:
        view, told = self._view, self._told
        settling = current.settling.since(told.settling)
        kinds = {kind: current.kinds[kind] - told.kinds[kind] for kind in OutcomeKind}
        received = current.received - told.received
        values: dict[str, float] = {
            "Received": received,
            "Recorded": kinds[OutcomeKind.RECORDED],
            "Duplicates": kinds[OutcomeKind.DUPLICATE],
            "DeadLettered": kinds[OutcomeKind.DEAD_LETTERED],
            "Returned": kinds[OutcomeKind.RETURNED],
            "AWSCalls": (current.calls - told.calls).total(),
            "Held": view.metrics.accounting.held,
            "SlotsFree": view.slots.free,
            "WriteConcurrency": view.write_concurrency,
            "Ready": int(not view.why_not_ready()),
            "BooksBalanced": int(view.metrics.accounting.is_balanced),
            "EventLoopLag": round(view.loop_lag_seconds, 3),
            "ReceivedRate": round(received / seconds, 3),
        }
        # Without messages there is no time that they took.
        if len(settling):
            values["SettlingP50"] = round(1000 * settling.quantile(0.5), 3)
            values["SettlingP99"] = round(1000 * settling.quantile(0.99), 3)
        return values


class _Copy:
    """What had been counted at one moment."""

    def __init__(self, metrics: Metrics) -> None:
        self.received = metrics.accounting.received
        self.kinds = Counter(metrics.accounting.by_kind)
        self.dead = Counter(metrics.accounting.dead_by_reason)
        self.calls = Counter(metrics.calls)
        self.events = Counter(metrics.events)
        self.settling = metrics.settling.copy()


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
