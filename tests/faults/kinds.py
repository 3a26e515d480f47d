"""Kinds of faults between a client and a service, and a switch for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from random import Random
from typing import Final


class Fault(StrEnum):
    """Kind of a fault.

    Attributes:
        THROTTLED: 400 with a throttling code; the request has no effect.
        ERROR_JSON: 500 or 503 with AWS's JSON; the request has no effect.
        ERROR_HTML: 500 or 503 with an HTML page; the request has no effect.
        RESET_BEFORE: The connection is reset before the request is forwarded.
        RESET_AFTER: The request takes effect and the connection is reset before the response.
        STALLED_BEFORE: No response within any deadline; the request has no effect.
        STALLED_AFTER: The request takes effect, its response arrives after the deadline.
        TRUNCATED: The request takes effect, the connection ends during the response.
        CUT_BODY: The request takes effect, the response has half of its body and a valid length.
        HTML: 200 with an HTML page; the request has no effect.
        GARBAGE: 200 with bytes that are not text; the request has no effect.
        LIST: 200 with JSON that is not an object; the request has no effect.
        EMPTY: 200 without a body; the request has no effect.
        ENTRIES_FAILED: Some entries of a batch are not forwarded and reported as failed.
        ENTRIES_DENIED: Some entries of a batch take effect but are reported as failed.
        STATEMENTS_FAILED: Some statements are not forwarded and reported as failed.
        STATEMENTS_DENIED: Some statements take effect but are reported as failed.
    """

    THROTTLED = "throttled"
    ERROR_JSON = "error_json"
    ERROR_HTML = "error_html"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    STALLED_BEFORE = "stalled_before"
    STALLED_AFTER = "stalled_after"
    TRUNCATED = "truncated"
    CUT_BODY = "cut"
    HTML = "html"
    GARBAGE = "garbage"
    LIST = "list"
    EMPTY = "empty"
    ENTRIES_FAILED = "entries_failed"
    ENTRIES_DENIED = "entries_denied"
    STATEMENTS_FAILED = "statements_failed"
    STATEMENTS_DENIED = "statements_denied"


OF_ENTRIES: Final = frozenset({Fault.ENTRIES_FAILED, Fault.ENTRIES_DENIED})
OF_STATEMENTS: Final = frozenset({Fault.STATEMENTS_FAILED, Fault.STATEMENTS_DENIED})


class FaultSwitch:
    """Random choice of a fault for each request; off by default.

    Args:
        seed: Seed of the sequence of faults.

    Attributes:
        injected: Number of injected faults of each kind.
        stall_seconds: Delay of a stalled response.
    """

    def __init__(self, seed: int = 0, stall_seconds: float = 3.0) -> None:
        self.random = Random(seed)
        self.injected: Counter[Fault] = Counter()
        self.stall_seconds = stall_seconds
        self._chances: dict[Fault, float] = {}
        self._operations: frozenset[str] = frozenset()

    def switch_on(self, chances: Mapping[Fault, float], *operations: str) -> None:
        """Inject these faults from now on, instead of the previous ones.

        Args:
            chances: Probability of each kind.
            operations: AWS operations that may fail; all if none is given.
        """
        self._chances = dict(chances)
        self._operations = frozenset(operations)

    def switch_off(self) -> None:
        """Stop injecting faults."""
        self._chances = {}

    def draw(self, operation: str) -> Fault | None:
        """Draw the fault of one request, if any."""
        if self._operations and operation not in self._operations:
            return None
        for fault, chance in self._chances.items():
            if _applies_to(fault, operation) and self.random.random() < chance:
                self.injected[fault] += 1
                return fault
        return None


def _applies_to(fault: Fault, operation: str) -> bool:
    if fault in OF_ENTRIES:
        return operation.endswith("MessageBatch") or operation == "ChangeMessageVisibilityBatch"
    if fault in OF_STATEMENTS:
        return operation == "BatchExecuteStatement"
    return True
