"""The outcome of a received message."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.errors import Reason


class OutcomeKind(StrEnum):
    """The four ways in which the processing of a message ends."""

    RECORDED = "recorded"
    DUPLICATE = "duplicate"
    DEAD_LETTERED = "dead"
    RETURNED = "returned"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one received message and its explanation.

    Attributes:
        reason: Set if the message is dead-lettered.
        detail: One line for the operator.
        delay_seconds: Set if the message is returned: the visibility timeout that delays its next
            receive.
    """

    kind: OutcomeKind
    reason: Reason | None = None
    detail: str = ""
    delay_seconds: float = 0.0

    @classmethod
    def dead_lettered(cls, reason: Reason, detail: str) -> Outcome:
        """Return the outcome of a message that can never be recorded."""
        return cls(OutcomeKind.DEAD_LETTERED, reason=reason, detail=_one_line(detail))

    @classmethod
    def returned(cls, detail: str, delay_seconds: float = 0.0) -> Outcome:
        """Return the outcome of a message that goes back to the queue."""
        return cls(OutcomeKind.RETURNED, detail=_one_line(detail), delay_seconds=delay_seconds)


def _one_line(text: str) -> str:
    # A detail may quote an identifier, which may contain line separators.
    return " ".join(text.split())


RECORDED: Final = Outcome(OutcomeKind.RECORDED)
DUPLICATE: Final = Outcome(OutcomeKind.DUPLICATE)
