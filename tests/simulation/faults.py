"""Decide, from one seed, what goes wrong and how long everything takes."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, fields
from enum import Enum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """Give each fault its own probability."""

    throttled: float = 0.0  # the call is refused
    server_error: float = 0.0  # a 5xx; half of them after the work was done
    lost_request: float = 0.0  # connection error or timeout before any effect
    lost_answer: float = 0.0  # connection error or timeout after the effect
    late_landing: float = 0.0  # a call that its caller gave up takes effect later
    slow_answer: float = 0.0  # the call takes seconds
    failed_entry: float = 0.0  # SQS: one entry of a batch fails
    failed_statement: float = 0.0  # DynamoDB: one statement of a batch fails
    duplicate_delivery: float = 0.0  # SQS: handed out and visible still
    reappearance: float = 0.0  # SQS: deleted, and back a little later
    out_of_order: float = 0.0  # SQS: passed over for now
    redrive_resets_count: float = 0.0  # SQS: receive count starts anew in the dead letters
    stale_read: float = 0.0  # DynamoDB: an eventual read misses the last second
    malformed: float = 0.0  # the work is done, and the response cannot be read in part or whole
    surplus_messages: float = 0.0  # SQS: more messages than were requested

    @classmethod
    def drawn(cls, rng: random.Random, most: float = 0.1) -> FaultRates:
        """Draw a mixture: about half of the faults, each with a rate up to `most`."""
        return cls(
            **{
                field.name: rng.random() * most if rng.random() < 0.5 else 0.0
                for field in fields(cls)
            }
        )


class OutcomeKind(Enum):
    """Name what happens to one call."""

    ANSWERED = auto()
    THROTTLED = auto()
    FAILED_BEFORE = auto()
    FAILED_AFTER = auto()
    LOST_BEFORE = auto()
    LOST_AFTER = auto()


_CALL_FAULTS = (
    ("throttled", OutcomeKind.THROTTLED, OutcomeKind.THROTTLED),
    ("server_error", OutcomeKind.FAILED_BEFORE, OutcomeKind.FAILED_AFTER),
    ("lost_request", OutcomeKind.LOST_BEFORE, OutcomeKind.LOST_BEFORE),
    ("lost_answer", OutcomeKind.LOST_AFTER, OutcomeKind.LOST_AFTER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Bound how long things take, in virtual seconds."""

    least_latency_seconds: float = 0.001
    most_latency_seconds: float = 0.02
    slow_answer_seconds: float = 20.0
    answer_timeout_seconds: float = 10.0
    late_landing_seconds: float = 5.0
    reappearance_seconds: float = 60.0
    stale_read_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Refuse calls for want of permission.

    Attributes:
        code: What the service answers.
        operations: Which calls; all, if empty. `PartiQLInsert` refuses single statements of a
            batch, as each needs that permission, where `BatchExecuteStatement` refuses it whole.
        resource: On which queue or table; on all, if empty.
    """

    code: str
    operations: frozenset[str] = frozenset()
    resource: str = ""


class Faults:
    """Answer every "does it fail now?" of the simulated services from one seeded source."""

    def __init__(
        self,
        seed: int,
        rates: FaultRates = FaultRates(),
        durations: Durations = Durations(),
    ) -> None:
        self.random = random.Random(seed)
        self.rates = rates
        self.durations = durations
        self.happened: Counter[str] = Counter()
        self._active = True
        self._down: set[str] = set()
        self._denials: dict[str, Denial] = {}
        self._gone: set[str] = set()

    @classmethod
    def drawn(cls, seed: int, most: float = 0.1) -> Faults:
        """Make faults of which the seed decides the mixture too."""
        faults = cls(seed)
        faults.rates = FaultRates.drawn(faults.random, most)
        return faults

    @property
    def active(self) -> bool:
        """Tell whether anything can still go wrong."""
        return self._active

    def stop(self) -> None:
        """End all faults for good; what takes time keeps taking its usual time."""
        self._active = False
        self._down.clear()
        self._denials.clear()
        self._gone.clear()

    def break_down(self, service: str) -> None:
        """Make every call to "sqs" or "dynamodb" fail until it is mended."""
        self._down.add(service)

    def mend(self, service: str) -> None:
        """End a breakdown."""
        self._down.discard(service)

    def deny(self, service: str, denial: Denial) -> None:
        """Refuse calls to "sqs" or "dynamodb" until they are allowed again."""
        self._denials[service] = denial

    def allow(self, service: str) -> None:
        """End a denial."""
        self._denials.pop(service, None)

    def denied(self, service: str, operation: str, resource: str = "") -> str | None:
        """Return the code with which a call is refused, if it is."""
        denial = self._denials.get(service)
        if denial is None or (denial.operations and operation not in denial.operations):
            return None
        if denial.resource and denial.resource != resource:
            return None
        self.happened["denied"] += 1
        return denial.code

    def remove(self, name: str) -> None:
        """Let a queue or table be unknown until it is put back; what it holds stays in it."""
        self._gone.add(name)

    def put_back(self, name: str) -> None:
        """End an absence."""
        self._gone.discard(name)

    def is_gone(self, name: str) -> bool:
        """Tell whether a queue or table is unknown now."""
        if name not in self._gone:
            return False
        self.happened["gone"] += 1
        return True

    def happens(self, fault: str) -> bool:
        """Decide whether the fault of this name in FaultRates happens now."""
        probability: float = getattr(self.rates, fault)
        if not probability or not self._active or self.random.random() >= probability:
            return False
        self.happened[fault] += 1
        return True

    def kind(self, service: str) -> OutcomeKind:
        """Decide what becomes of one call to a service."""
        if not self._active:
            return OutcomeKind.ANSWERED
        if service in self._down:
            self.happened["down"] += 1
            return OutcomeKind.LOST_BEFORE
        for fault, before, after in _CALL_FAULTS:
            if self.happens(fault):
                return after if before is after or self.coin() else before
        return OutcomeKind.ANSWERED

    def coin(self) -> bool:
        """Toss a coin."""
        return self.random.random() < 0.5

    def latency(self) -> float:
        """Draw the seconds that one way of a call takes."""
        bounds = self.durations
        span = bounds.most_latency_seconds - bounds.least_latency_seconds
        seconds = bounds.least_latency_seconds + self.random.random() * span
        if self.rates.slow_answer and self.happens("slow_answer"):
            seconds += self.random.random() * bounds.slow_answer_seconds
        return seconds

    def up_to(self, most_seconds: float) -> float:
        """Draw a duration."""
        return self.random.random() * most_seconds
