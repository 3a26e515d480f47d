"""What can go wrong between a client and a service, and how often it does now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from random import Random
from typing import Final


class Fault(StrEnum):
    """One way to fail.

    Attributes:
        THROTTLED: 400 with the service's own code; nothing is done.
        ERROR_JSON: 500 or 503 with AWS's JSON; nothing is done.
        ERROR_HTML: 500 or 503 with a page of HTML; nothing is done.
        RESET_BEFORE: the connection ends before the request is passed on.
        RESET_AFTER: the request is done and its answer lost.
        STALLED_BEFORE: no answer for longer than any deadline; nothing is done.
        STALLED_AFTER: the request is done, its answer comes too late.
        TRUNCATED: the request is done, the connection ends in the midst of the answer.
        CUT: the request is done; the answer's text ends in its midst, whole by its headers.
        HTML: 200 with a page of HTML; nothing is done.
        GARBAGE: 200 with bytes that are no text; nothing is done.
        LIST: 200 with JSON that is no object; nothing is done.
        EMPTY: 200 without a body; nothing is done.
        ENTRIES_FAILED: some entries of a batch are not passed on and reported as failed.
        ENTRIES_DENIED: some entries of a batch are done and reported as failed all the same.
        STATEMENTS_FAILED: some statements are not passed on and reported as failed.
        STATEMENTS_DENIED: some statements are done and reported as failed all the same.
    """

    THROTTLED = "throttled"
    ERROR_JSON = "error_json"
    ERROR_HTML = "error_html"
    RESET_BEFORE = "reset_before"
    RESET_AFTER = "reset_after"
    STALLED_BEFORE = "stalled_before"
    STALLED_AFTER = "stalled_after"
    TRUNCATED = "truncated"
    CUT = "cut"
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


class Switchboard:
    """Say which fault befalls the next request; nothing does until it is switched on.

    Args:
        seed: gives the whole sequence.

    Attributes:
        injected: how often each fault came to pass.
        stall_seconds: how long a stalled answer takes.
    """

    def __init__(self, seed: int = 0, stall_seconds: float = 3.0) -> None:
        self.random = Random(seed)
        self.injected: Counter[Fault] = Counter()
        self.stall_seconds = stall_seconds
        self._chances: dict[Fault, float] = {}
        self._operations: frozenset[str] = frozenset()

    def switch_on(self, chances: Mapping[Fault, float], *operations: str) -> None:
        """Let faults happen from now on, in place of those that did before.

        Args:
            chances: of each kind, between 0 and 1.
            operations: AWS's names of the calls that may fail; all of them if none is named.
        """
        self._chances = dict(chances)
        self._operations = frozenset(operations)

    def switch_off(self) -> None:
        """Let nothing fail any more."""
        self._chances = {}

    def draw(self, operation: str) -> Fault | None:
        """Draw the fate of one request."""
        if self._operations and operation not in self._operations:
            return None
        for fault, chance in self._chances.items():
            if _befalls(fault, operation) and self.random.random() < chance:
                self.injected[fault] += 1
                return fault
        return None


def _befalls(fault: Fault, operation: str) -> bool:
    if fault in OF_ENTRIES:
        return operation.endswith("MessageBatch") or operation == "ChangeMessageVisibilityBatch"
    if fault in OF_STATEMENTS:
        return operation == "BatchExecuteStatement"
    return True
