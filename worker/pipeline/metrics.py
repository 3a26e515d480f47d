"""Counters of the service, and the books that must balance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log
from typing import Final

from worker.domain.outcome import Outcome, OutcomeKind


@dataclass(slots=True)
class Accounting:
    """What became of every delivery.

    Attributes:
        received: deliveries taken from the queue.
        held: deliveries not settled yet.
        by_fate: settled deliveries.
        dead_by_reason: the dead ones.
    """

    received: int = 0
    held: int = 0
    by_kind: Counter[OutcomeKind] = field(default_factory=Counter)
    dead_by_reason: Counter[str] = field(default_factory=Counter)

    def open(self) -> None:
        """Enter a delivery."""
        self.received += 1
        self.held += 1

    def close(self, outcome: Outcome) -> None:
        """Enter its fate."""
        self.held -= 1
        self.by_kind[outcome.kind] += 1
        if outcome.reason is not None:
            self.dead_by_reason[outcome.reason.value] += 1

    @property
    def balance(self) -> bool:
        """Say whether received = recorded + duplicate + dead + returned + held."""
        return self.held >= 0 and self.received == self.by_kind.total() + self.held

    def figures(self) -> dict[str, int | bool | dict[str, int]]:
        """Give all figures under their names in logs and reports."""
        return {
            "received": self.received,
            "recorded": self.by_kind[OutcomeKind.RECORDED],
            "duplicates": self.by_kind[OutcomeKind.DUPLICATE],
            "dead_lettered": self.by_kind[OutcomeKind.DEAD_LETTERED],
            "returned": self.by_kind[OutcomeKind.RETURNED],
            "held": self.held,
            "balanced": self.balance,
            "dead_by_reason": dict(sorted(self.dead_by_reason.items())),
        }


# Buckets of durations grow by a tenth, from here on.
_LEAST_SECONDS: Final = 1e-5
_GROWTH: Final = 1.1
_SCALE: Final = 1 / log(_GROWTH)


@dataclass(slots=True)
class Durations:
    """How long things took, in growing buckets: a quantile is right to five in a hundred."""

    _counts: Counter[int] = field(default_factory=Counter)

    def __len__(self) -> int:
        return self._counts.total()

    def add(self, seconds: float) -> None:
        """Take in one."""
        bucket = int(log(seconds / _LEAST_SECONDS) * _SCALE) if seconds > _LEAST_SECONDS else 0
        self._counts[bucket] += 1

    def clear(self) -> None:
        """Begin anew."""
        self._counts.clear()

    def quantile(self, share: float) -> float:
        """Give the seconds that such a share did not exceed; 0 where there are none."""
        left = share * len(self)
        for bucket, count in sorted(self._counts.items()):
            left -= count
            if left <= 0:
                return _middle_seconds(bucket)
        return 0.0

    def cumulative(self, bounds_seconds: Sequence[float]) -> list[int]:
        """Count for each bound what did not exceed it."""
        counts = [(_middle_seconds(bucket), count) for bucket, count in self._counts.items()]
        return [
            sum(count for middle, count in counts if middle <= bound) for bound in bounds_seconds
        ]

    @property
    def total_seconds(self) -> float:
        """What all of them took together."""
        return sum(_middle_seconds(bucket) * count for bucket, count in self._counts.items())

    def copy(self) -> Durations:
        """Keep what was taken in until now."""
        return Durations(self._counts.copy())

    def since(self, earlier: Durations) -> Durations:
        """Give what was taken in after that copy was made."""
        return Durations(self._counts - earlier._counts)


def _middle_seconds(bucket: int) -> float:
    return float(_LEAST_SECONDS * _GROWTH ** (bucket + 0.5))


@dataclass(slots=True)
class Metrics:
    """Everything that the service counts.

    Attributes:
        books: the deliveries.
        calls: requests to AWS by operation.
        events: things that an operator may want to know of, by name, such as `lease_lost`.
        settling: from receipt to settlement, of each delivery.
    """

    accounting: Accounting = field(default_factory=Accounting)
    calls: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    settling: Durations = field(default_factory=Durations)
