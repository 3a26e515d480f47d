"""Snapshot of the status of one process, as JSON between child and parent."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from worker.domain.outcome import OutcomeKind
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Accounting, Durations, Metrics


@dataclass(frozen=True, slots=True)
class SlotCounts:
    """Slots at one time.

    Attributes:
        limit: Maximum number of messages in flight.
        in_flight: Slots in use, by polls in flight or by messages.
        filled: Slots that hold a message.
        bytes_in_flight: Actual or expected size of the messages in flight.
    """

    limit: int = 0
    in_flight: int = 0
    filled: int = 0
    bytes_in_flight: int = 0

    @property
    def free(self) -> int:
        """Number of free slots."""
        return self.limit - self.in_flight

    def __add__(self, other: SlotCounts) -> SlotCounts:
        return SlotCounts(
            self.limit + other.limit,
            self.in_flight + other.in_flight,
            self.filled + other.filled,
            self.bytes_in_flight + other.bytes_in_flight,
        )


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Status of one process at one time; see `ServiceStatus`."""

    metrics: Metrics
    slots: SlotCounts
    write_concurrency: int
    is_started: bool
    loop_lag_seconds: float
    poll_age_seconds: float | None
    not_live: list[str]
    not_ready: list[str]

    @classmethod
    def of(cls, status: ServiceStatus) -> Snapshot:
        """Return the present status; its metrics are not copied."""
        slots = status.slots
        return cls(
            metrics=status.metrics,
            slots=SlotCounts(
                slots.free + slots.in_flight, slots.in_flight, slots.filled, slots.bytes_in_flight
            ),
            write_concurrency=status.write_concurrency(),
            is_started=not status.why_not_started(),
            loop_lag_seconds=status.loop_lag_seconds,
            poll_age_seconds=status.poll_age_seconds,
            not_live=status.why_not_live(),
            not_ready=status.why_not_ready(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        metrics, accounting = self.metrics, self.metrics.accounting
        return {
            "metrics": {
                "accounting": {
                    "received": accounting.received,
                    "held": accounting.held,
                    "abandoned": accounting.abandoned,
                    "by_kind": accounting.by_kind,
                    "dead_by_reason": accounting.dead_by_reason,
                },
                "calls": metrics.calls,
                "events": metrics.events,
                "settling": metrics.settling.counts,
            },
            "slots": asdict(self.slots),
            "write_concurrency": self.write_concurrency,
            "is_started": self.is_started,
            "loop_lag_seconds": self.loop_lag_seconds,
            "poll_age_seconds": self.poll_age_seconds,
            "not_live": self.not_live,
            "not_ready": self.not_ready,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Snapshot:
        """Return the snapshot that `to_json` wrote."""
        counts = content["metrics"]
        accounting = counts["accounting"]
        by_kind = {OutcomeKind(kind): number for kind, number in accounting["by_kind"].items()}
        metrics = Metrics(
            Accounting(
                accounting["received"],
                accounting["held"],
                accounting["abandoned"],
                Counter(by_kind),
                Counter(accounting["dead_by_reason"]),
            ),
            Counter(counts["calls"]),
            Counter(counts["events"]),
            Durations(Counter({int(at): number for at, number in counts["settling"].items()})),
        )
        return cls(**{**content, "metrics": metrics, "slots": SlotCounts(**content["slots"])})
