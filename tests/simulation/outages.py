"""Faults that last: outages, denied permissions, missing queues and tables."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from random import Random

from tests.simulation.faults import Denial, Faults

# Denials closer together than this are one to a caller that retries at longer intervals.
_SAME_DENIAL_SECONDS = 60.0

_CODES = {
    "sqs": ("AccessDeniedException", "ExpiredToken", "InvalidClientTokenId"),
    "dynamodb": ("AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"),
}
DENIAL_CODES = frozenset(
    {"QueueDoesNotExist", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId"}
)
# A whole service is denied more often than a single permission.
_PERMISSIONS: dict[str, tuple[frozenset[str], ...]] = {
    "sqs": (
        frozenset(),
        frozenset(),
        frozenset(),
        frozenset({"ReceiveMessage"}),
        frozenset({"DeleteMessageBatch"}),
        frozenset({"SendMessageBatch"}),
        frozenset({"ChangeMessageVisibilityBatch"}),
    ),
    "dynamodb": (
        frozenset(),
        frozenset(),
        frozenset({"GetItem"}),
        frozenset({"PutItem", "BatchExecuteStatement"}),
        frozenset({"PutItem", "PartiQLInsert"}),
    ),
}
_RESOURCES = {
    "source": "sqs",
    "dead": "sqs",
    "aup-policies": "dynamodb",
    "aup-acceptances": "dynamodb",
}


class OutageKind(Enum):
    """Kind of an outage."""

    DOWN = "down"
    DENIED = "denied"
    MISSING = "missing"


@dataclass(slots=True, eq=False)
class Outage:
    """Fault that lasts.

    Attributes:
        target: Service, or name of the missing queue or table.
        denial: Denied permission, for an outage of that kind.
    """

    kind: OutageKind
    target: str
    denial: Denial | None = None
    began_at: float = inf
    ended_at: float = inf

    @classmethod
    def drawn(cls, plan: Random, kind: OutageKind) -> Outage:
        """Draw the target and the details of an outage."""
        if kind is OutageKind.MISSING:
            return cls(kind, plan.choice(list(_RESOURCES)))
        service = plan.choice(("sqs", "dynamodb"))
        if kind is OutageKind.DOWN:
            return cls(kind, service)
        denial = Denial(
            code=plan.choice(_CODES[service]), operations=plan.choice(_PERMISSIONS[service])
        )
        return cls(kind, service, denial)

    @property
    def service(self) -> str:
        """Service that the outage affects."""
        return _RESOURCES.get(self.target, self.target)

    def __str__(self) -> str:
        denied = f" {self.denial.code} {sorted(self.denial.operations)}" if self.denial else ""
        return f"{self.target} is {self.kind.value}{denied}"


@dataclass(slots=True)
class Outages:
    """All outages of a run.

    Attributes:
        faults: Faults by service.
        all: Past and present outages.
        fault_free_periods: Start and end of each past period without faults.
    """

    faults: dict[str, Faults]
    all: list[Outage] = field(default_factory=list)
    fault_free_periods: list[tuple[float, float]] = field(default_factory=list)
    _fault_free_since: float = inf

    def begin(self, outage: Outage) -> None:
        """Begin an outage."""
        outage.began_at = _now()
        self.all.append(outage)
        faults = self.faults[outage.service]
        if outage.denial is not None:
            faults.deny(outage.service, outage.denial)
        elif outage.kind is OutageKind.MISSING:
            faults.remove(outage.target)
        else:
            faults.break_down(outage.service)

    def end(self, outage: Outage) -> None:
        """End an outage."""
        outage.ended_at = _now()
        faults = self.faults[outage.service]
        faults.allow(outage.service)
        faults.restore(outage.target)
        faults.recover(outage.service)

    def denied_seconds(self, since: float, until: float) -> float:
        """Return the longest time without access or without a resource between two times."""
        longest, begun, ended = 0.0, -inf, -inf
        for outage in self.all:
            began, over = max(outage.began_at, since), min(outage.ended_at, until)
            if outage.kind is OutageKind.DOWN or over < began:
                continue
            if began > ended + _SAME_DENIAL_SECONDS:
                begun = began
            ended = max(ended, over)
            longest = max(longest, ended - begun)
        return longest

    def was_denied(self, since: float) -> bool:
        """Return whether access was denied or a resource was missing since a time."""
        return any(
            outage.ended_at >= since for outage in self.all if outage.kind is not OutageKind.DOWN
        )

    def begin_fault_free_period(self) -> None:
        """Note that every message can be settled from now on."""
        self.end_fault_free_period()
        self._fault_free_since = _now()

    def end_fault_free_period(self) -> None:
        """Note that a fault-free period is over."""
        if self._fault_free_since < _now():
            self.fault_free_periods.append((self._fault_free_since, _now()))
        self._fault_free_since = inf

    def fault_free_seconds(self, since: float, until: float) -> float:
        """Return the longest fault-free time in seconds between two times."""
        windows = [*self.fault_free_periods, (self._fault_free_since, inf)]
        return max(min(end, until) - max(begin, since) for begin, end in windows)


def _now() -> float:
    return asyncio.get_running_loop().time()
