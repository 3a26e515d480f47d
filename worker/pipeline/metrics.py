"""Counters of the service, and the message accounting that must balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final

from worker.domain.outcome import Outcome, OutcomeKind


@dataclass(slots=True)
class Accounting:
    """Message accounting: how many messages were received, and their outcomes.

    A message that is received twice counts twice.

    Attributes:
        received: Messages received from the queue.
        held: Messages not settled yet.
        abandoned: Messages held by processes that ended: they become visible again.
        by_kind: Settled messages by outcome.
        dead_by_reason: Dead-lettered messages by reason.
    """

    received: int = 0
    held: int = 0
    abandoned: int = 0
    by_kind: Counter[OutcomeKind] = field(default_factory=Counter)
    dead_by_reason: Counter[str] = field(default_factory=Counter)

    def open(self) -> None:
        """Count a received message."""
        self.received += 1
        self.held += 1

    def close(self, outcome: Outcome) -> None:
        """Count the outcome of a message."""
        self.held -= 1
        self.by_kind[outcome.kind] += 1
        if outcome.reason is not None:
            self.dead_by_reason[outcome.reason.value] += 1

    def abandon(self) -> None:
        """Count the held messages as abandoned, because their process has ended."""
        self.abandoned += self.held
        self.held = 0

    def add(self, other: Accounting) -> None:
        """Add the counts of another process."""
        self.received += other.received
        self.held += other.held
        self.abandoned += other.abandoned
        self.by_kind.update(other.by_kind)
        self.dead_by_reason.update(other.dead_by_reason)

    @property
    def is_balanced(self) -> bool:
        """Whether received = recorded + duplicates + dead-lettered + returned + abandoned + held.

        Only the parent of several processes counts abandoned messages.
        """
        settled = self.by_kind.total()
        return self.held >= 0 and self.received == settled + self.abandoned + self.held

    def figures(self) -> dict[str, int | bool | dict[str, int]]:
        """Return all figures by their names in logs and reports."""
        return {
            "received": self.received,
            "recorded": self.by_kind[OutcomeKind.RECORDED],
            "duplicates": self.by_kind[OutcomeKind.DUPLICATE],
            "dead_lettered": self.by_kind[OutcomeKind.DEAD_LETTERED],
            "returned": self.by_kind[OutcomeKind.RETURNED],
            "abandoned": self.abandoned,
            "held": self.held,
            "balanced": self.is_balanced,
            "dead_by_reason": dict(sorted(self.dead_by_reason.items())),
        }


# Each bucket of durations is a tenth longer than the one before, starting here.
_LEAST_SECONDS: Final = 1e-5
_GROWTH: Final = 1.1
_SCALE: Final = 1 / log(_GROWTH)


@dataclass(slots=True)
class Durations:
    """Histogram of durations in exponential buckets; quantiles are accurate to 5 %."""

    _counts: Counter[int] = field(default_factory=Counter)

    @property
    def counts(self) -> Counter[int]:
        """Number of durations in each bucket; `Durations` accepts it."""
        return self._counts

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, seconds: float) -> None:
        """Add a duration."""
        bucket = int(log(seconds / _LEAST_SECONDS) * _SCALE) if seconds > _LEAST_SECONDS else 0
        self._counts[bucket] += 1

    def clear(self) -> None:
        """Remove all durations."""
        self._counts.clear()

    def quantile(self, share: float) -> float:
        """Return the quantile of a share from 0 to 1, in seconds; 0 without durations."""
        left = share * len(self)
        for bucket, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return _middle_seconds(bucket)
        return 0.0

    def cumulative(self, bounds_seconds: Sequence[float]) -> list[int]:
        """Return, for each bound, how many durations do not exceed it."""
        counts = [(_middle_seconds(bucket), count) for bucket, count in self._counts.items()]
        return [
            sum(count for middle, count in counts if middle <= bound) for bound in bounds_seconds
        ]

    @property
    def total_seconds(self) -> float:
        """Sum of all durations."""
        return sum(_middle_seconds(bucket) * count for bucket, count in self._counts.items())

    def since(self, earlier: Durations) -> Durations:
        """Return the durations that were added since an earlier copy was made."""
        return Durations(self._counts - earlier._counts)


def _middle_seconds(bucket: int) -> float:
    return float(_LEAST_SECONDS * _GROWTH ** (bucket + 0.5))


@dataclass(slots=True)
class Metrics:
    """All counters of the service.

    Attributes:
        accounting: Message accounting.
        calls: Requests to AWS by operation.
        events: Notable events by name, such as `lease_lost`.
        settling: Durations from the receipt of a message to its settlement.
    """

    accounting: Accounting = field(default_factory=Accounting)
    calls: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    settling: Durations = field(default_factory=Durations)

    def add(self, other: Metrics) -> None:
        """Add the counts of another process."""
        self.accounting.add(other.accounting)
        self.calls.update(other.calls)
        self.events.update(other.events)
        self.settling.counts.update(other.settling.counts)
