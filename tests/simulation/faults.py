"""Faults and durations of the simulated services, drawn from a seed."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, fields
from enum import Enum, auto


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """Probability of each fault."""

    throttled: float = 0.0  # the call is throttled
    server_error: float = 0.0  # 5xx; half of them after the call took effect
    lost_request: float = 0.0  # connection error or timeout before any effect
    lost_response: float = 0.0  # connection error or timeout after the effect
    delayed_effect: float = 0.0  # an abandoned call takes effect later
    slow_response: float = 0.0  # the call takes seconds
    failed_entry: float = 0.0  # SQS: one entry of a batch fails
    failed_statement: float = 0.0  # DynamoDB: one statement of a batch fails
    duplicate_receive: float = 0.0  # SQS: a received message stays visible
    reappearance: float = 0.0  # SQS: a deleted message becomes visible again
    out_of_order: float = 0.0  # SQS: a later message is received first
    redrive_resets_count: float = 0.0  # SQS: the receive count is reset in the dead-letter queue
    stale_read: float = 0.0  # DynamoDB: an eventually consistent read misses the last second
    malformed: float = 0.0  # the call took effect, its response is partly or entirely unreadable
    surplus_messages: float = 0.0  # SQS: more messages than were requested

    @classmethod
    def drawn(cls, rng: random.Random, max_rate: float = 0.1) -> FaultRates:
        """Draw rates for about half of the faults, each up to `max_rate`."""
        return cls(
            **{
                field.name: rng.random() * max_rate if rng.random() < 0.5 else 0.0
                for field in fields(cls)
            }
        )


class CallOutcome(Enum):
    """Outcome of one call."""

    SUCCEEDED = auto()
    THROTTLED = auto()
    FAILED_BEFORE = auto()
    FAILED_AFTER = auto()
    LOST_BEFORE = auto()
    LOST_AFTER = auto()


_CALL_FAULTS = (
    ("throttled", CallOutcome.THROTTLED, CallOutcome.THROTTLED),
    ("server_error", CallOutcome.FAILED_BEFORE, CallOutcome.FAILED_AFTER),
    ("lost_request", CallOutcome.LOST_BEFORE, CallOutcome.LOST_BEFORE),
    ("lost_response", CallOutcome.LOST_AFTER, CallOutcome.LOST_AFTER),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Durations:
    """Limits of durations in virtual seconds."""

    min_latency_seconds: float = 0.001
    max_latency_seconds: float = 0.02
    slow_response_seconds: float = 20.0
    response_timeout_seconds: float = 10.0
    delayed_effect_seconds: float = 5.0
    reappearance_seconds: float = 60.0
    stale_read_seconds: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Denial:
    """Denied permission.

    Attributes:
        code: Error code that the service returns.
        operations: Denied operations; all if empty. `PartiQLInsert` denies single statements of a
            batch, as each needs that permission; `BatchExecuteStatement` denies the whole batch.
        resource: Queue or table; all if empty.
    """

    code: str
    operations: frozenset[str] = frozenset()
    resource: str = ""


class Faults:
    """Seeded decisions on whether a simulated call fails and how long it takes."""

    def __init__(
        self,
        seed: int,
        rates: FaultRates = FaultRates(),
        durations: Durations = Durations(),
    ) -> None:
        self.random = random.Random(seed)
        self.rates = rates
        self.durations = durations
        self.injected: Counter[str] = Counter()
        self._active = True
        self._down: set[str] = set()
        self._denials: dict[str, Denial] = {}
        self._missing: set[str] = set()

    @classmethod
    def drawn(cls, seed: int, max_rate: float = 0.1) -> Faults:
        """Return faults whose rates are drawn from the seed as well."""
        faults = cls(seed)
        faults.rates = FaultRates.drawn(faults.random, max_rate)
        return faults

    @property
    def active(self) -> bool:
        """Whether faults can still occur."""
        return self._active

    def stop(self) -> None:
        """Stop all faults for good; latencies remain."""
        self._active = False
        self._down.clear()
        self._denials.clear()
        self._missing.clear()

    def break_down(self, service: str) -> None:
        """Make every call to "sqs" or "dynamodb" fail until `recover`."""
        self._down.add(service)

    def recover(self, service: str) -> None:
        """End a `break_down`."""
        self._down.discard(service)

    def deny(self, service: str, denial: Denial) -> None:
        """Deny calls to "sqs" or "dynamodb" until `allow`."""
        self._denials[service] = denial

    def allow(self, service: str) -> None:
        """End a denial."""
        self._denials.pop(service, None)

    def denied(self, service: str, operation: str, resource: str = "") -> str | None:
        """Return the error code of a denied call; None if it is permitted."""
        denial = self._denials.get(service)
        if denial is None or (denial.operations and operation not in denial.operations):
            return None
        if denial.resource and denial.resource != resource:
            return None
        self.injected["denied"] += 1
        return denial.code

    def remove(self, name: str) -> None:
        """Hide a queue or table until `restore`; its contents are kept."""
        self._missing.add(name)

    def restore(self, name: str) -> None:
        """End a `remove`."""
        self._missing.discard(name)

    def is_missing(self, name: str) -> bool:
        """Return whether a queue or table is hidden now."""
        if name not in self._missing:
            return False
        self.injected["missing"] += 1
        return True

    def happens(self, fault: str) -> bool:
        """Decide whether the fault with this field name of FaultRates occurs now."""
        probability: float = getattr(self.rates, fault)
        if not probability or not self._active or self.random.random() >= probability:
            return False
        self.injected[fault] += 1
        return True

    def outcome(self, service: str) -> CallOutcome:
        """Decide the outcome of one call to a service."""
        if not self._active:
            return CallOutcome.SUCCEEDED
        if service in self._down:
            self.injected["down"] += 1
            return CallOutcome.LOST_BEFORE
        for fault, before, after in _CALL_FAULTS:
            if self.happens(fault):
                return after if before is after or self.coin() else before
        return CallOutcome.SUCCEEDED

    def coin(self) -> bool:
        """Return true with a probability of one half."""
        return self.random.random() < 0.5

    def latency(self) -> float:
        """Draw the latency in seconds of a request or of a response."""
        bounds = self.durations
        span = bounds.max_latency_seconds - bounds.min_latency_seconds
        seconds = bounds.min_latency_seconds + self.random.random() * span
        if self.rates.slow_response and self.happens("slow_response"):
            seconds += self.random.random() * bounds.slow_response_seconds
        return seconds

    def up_to(self, most_seconds: float) -> float:
        """Draw a duration in seconds."""
        return self.random.random() * most_seconds
