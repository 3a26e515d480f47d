"""Draw trouble that lasts, begin and end it, and remember when there was none."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from random import Random

from tests.simulation.faults import Denial, Faults

# Two refusals that are no further apart are one to a caller who retries at longer intervals.
_SAME_REFUSAL_SECONDS = 60.0

_CODES = {
    "sqs": ("AccessDeniedException", "ExpiredToken", "InvalidClientTokenId"),
    "dynamodb": ("AccessDeniedException", "ExpiredTokenException", "UnrecognizedClientException"),
}
REFUSALS = frozenset(
    {"QueueDoesNotExist", "AccessDeniedException", "ExpiredToken", "InvalidClientTokenId"}
)
# All of a service more often than one permission of it.
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
_PLACES = {
    "source": "sqs",
    "dead": "sqs",
    "aup-policies": "dynamodb",
    "aup-acceptances": "dynamodb",
}


class Trouble(Enum):
    """Name what lasts."""

    DOWN = "down"
    DENIED = "denied"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Outage:
    """Hold one trouble that lasts.

    Attributes:
        place: the service, or the queue or table that is gone.
        denial: what is denied, where it is.
    """

    trouble: Trouble
    place: str
    denial: Denial | None = None
    began_at: float = inf
    ended_at: float = inf

    @classmethod
    def drawn(cls, plan: Random, trouble: Trouble) -> Outage:
        """Draw where it happens, and how."""
        if trouble is Trouble.GONE:
            return cls(trouble, plan.choice(list(_PLACES)))
        service = plan.choice(("sqs", "dynamodb"))
        if trouble is Trouble.DOWN:
            return cls(trouble, service)
        denial = Denial(
            code=plan.choice(_CODES[service]), operations=plan.choice(_PERMISSIONS[service])
        )
        return cls(trouble, service, denial)

    @property
    def service(self) -> str:
        """Return which service has the trouble."""
        return _PLACES.get(self.place, self.place)

    def __str__(self) -> str:
        denied = f" {self.denial.code} {sorted(self.denial.operations)}" if self.denial else ""
        return f"{self.place} is {self.trouble.value}{denied}"


@dataclass(slots=True)
class Outages:
    """Begin and end what lasts.

    Attributes:
        faults: by service.
        all: what there was and is.
        calm: when nothing stood in a worker's way, from when to when.
    """

    faults: dict[str, Faults]
    all: list[Outage] = field(default_factory=list)
    calm: list[tuple[float, float]] = field(default_factory=list)
    _calm_since: float = inf

    def begin(self, outage: Outage) -> None:
        """Let it happen from now on."""
        outage.began_at = _now()
        self.all.append(outage)
        faults = self.faults[outage.service]
        if outage.denial is not None:
            faults.deny(outage.service, outage.denial)
        elif outage.trouble is Trouble.GONE:
            faults.remove(outage.place)
        else:
            faults.break_down(outage.service)

    def end(self, outage: Outage) -> None:
        """Let it be over."""
        outage.ended_at = _now()
        faults = self.faults[outage.service]
        faults.allow(outage.service)
        faults.put_back(outage.place)
        faults.mend(outage.service)

    def refused_seconds(self, since: float, until: float) -> float:
        """Return how long, at most, access was denied or something gone between two moments."""
        longest, begun, ended = 0.0, -inf, -inf
        for outage in self.all:
            began, over = max(outage.began_at, since), min(outage.ended_at, until)
            if outage.trouble is Trouble.DOWN or over < began:
                continue
            if began > ended + _SAME_REFUSAL_SECONDS:
                begun = began
            ended = max(ended, over)
            longest = max(longest, ended - begun)
        return longest

    def was_refused(self, since: float) -> bool:
        """Tell whether access was denied or something gone since a moment."""
        return any(
            outage.ended_at >= since for outage in self.all if outage.trouble is not Trouble.DOWN
        )

    def calm_begins(self) -> None:
        """Take in that from now on every message can be settled."""
        self.calm_ends()
        self._calm_since = _now()

    def calm_ends(self) -> None:
        """Take in that this is over."""
        if self._calm_since < _now():
            self.calm.append((self._calm_since, _now()))
        self._calm_since = inf

    def calm_seconds(self, since: float, until: float) -> float:
        """Return the longest time without trouble between two moments."""
        windows = [*self.calm, (self._calm_since, inf)]
        return max(min(end, until) - max(begin, since) for begin, end in windows)


def _now() -> float:
    return asyncio.get_running_loop().time()
