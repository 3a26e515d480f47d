"""Summaries in CloudWatch's Embedded Metric Format, which needs no agent.

Documents go to stdout, one per line. The service writes nothing else there; the log drivers of ECS,
Docker and systemd collect stdout and stderr.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final, TextIO

import structlog

from worker.domain.outcome import OutcomeKind
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Metrics
from worker.runtime.streams import LineWriter

_log: Final = structlog.get_logger()


class EMF:
    """Writer of EMF documents: counters since the last document, and current gauges.

    Args:
        status: status of the service.
        stream: output stream; stdout by default.
        now: returns Unix seconds.
    """

    def __init__(
        self,
        status: ServiceStatus,
        stream: TextIO | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._status = status
        self._lines = LineWriter(stream or sys.stdout)
        self._now = now
        self._written_at = now()
        self._written = Metrics()
        self._failed = False

    def write(self, event: str) -> None:
        """Write a document.

        If that fails, it is logged once, and the next document includes its counts.

        Args:
            event: `summary` or `stopped`.
        """
        before = self._written, self._written_at
        if self._lines.write(json.dumps(self.document(event), ensure_ascii=False)):
            self._failed = False
            return
        self._written, self._written_at = before
        if not self._failed:
            self._failed = True
            _log.warning("metrics not written to stdout", hint="the next line includes them")

    def document(self, event: str) -> dict[str, Any]:
        """Return a document with the counts since the last one."""
        now, current = self._now(), deepcopy(self._status.metrics)
        values = self._values(current, max(now - self._written_at, 1e-3))
        before, self._written, self._written_at = self._written, current, now
        counted = {
            "dead_by_reason": current.accounting.dead_by_reason - before.accounting.dead_by_reason,
            "calls": current.calls - before.calls,
            "events": current.events - before.events,
        }
        directive = {
            "Namespace": self._status.settings.emf_namespace,
            "Dimensions": [["queue"]],
            "Metrics": [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()],
        }
        return {
            "_aws": {"Timestamp": int(now * 1000), "CloudWatchMetrics": [directive]},
            "event": event,
            "queue": self._status.queue_name,
            **{name: value for name, (value, _) in values.items()},
            "abandoned": current.accounting.abandoned - before.accounting.abandoned,
            "not_ready": self._status.why_not_ready(),
            **{name: dict(sorted(counts.items())) for name, counts in counted.items()},
            **self._status.identity,
        }

    def _values(self, current: Metrics, seconds: float) -> dict[str, tuple[float, str]]:
        """Return values and units, by name; units as in CloudWatch's API reference, MetricDatum."""
        status, before = self._status, self._written
        settling = current.settling.since(before.settling)
        kinds = current.accounting.by_kind - before.accounting.by_kind
        received = current.accounting.received - before.accounting.received
        values: dict[str, tuple[float, str]] = {
            "Received": (received, "Count"),
            "Recorded": (kinds[OutcomeKind.RECORDED], "Count"),
            "Duplicates": (kinds[OutcomeKind.DUPLICATE], "Count"),
            "DeadLettered": (kinds[OutcomeKind.DEAD_LETTERED], "Count"),
            "Returned": (kinds[OutcomeKind.RETURNED], "Count"),
            "AWSCalls": ((current.calls - before.calls).total(), "Count"),
            "Held": (current.accounting.held, "Count"),
            "SlotsFree": (status.slots.free, "Count"),
            "WriteConcurrency": (status.write_concurrency(), "Count"),
            "Ready": (int(not status.why_not_ready()), "None"),
            "BooksBalanced": (int(current.accounting.is_balanced), "None"),
            "EventLoopLag": (round(status.loop_lag_seconds, 3), "Seconds"),
            "ReceivedRate": (round(received / seconds, 3), "Count/Second"),
        }
        # Without messages there are no durations.
        if len(settling):
            values["SettlingP50"] = round(1000 * settling.quantile(0.5), 3), "Milliseconds"
            values["SettlingP99"] = round(1000 * settling.quantile(0.99), 3), "Milliseconds"
        return values
