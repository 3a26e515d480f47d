"""Results, counts and progress of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from worker.operations.dead_letters.dead_letter import DeadLetter

_NOTES_KEPT: Final = 20


class Result(StrEnum):
    """Result of the replay of one dead letter."""

    REPLAYED = "replayed"
    UNDELETED = "undeleted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class ReplayFigures:
    """Counts of a replay so far, including the earlier runs that it resumes.

    Attributes:
        matched: Dead letters that match the filters.
        replayed: Sent, confirmed and deleted from the dead-letter queue.
        undeleted: Sent and confirmed, but not deleted from the dead-letter queue.
        failed: Not sent; still in the dead-letter queue.
        skipped: Replayed too often before, or held back; still in the dead-letter queue.
        earlier: Those of `replayed` that an earlier run sent.
        missing: Requested ids that are not in the dead-letter queue.
        held_back: Those of `skipped` that would be dead-lettered again.
        unseen: Dead letters that the queue counts and did not return.
        last_error: Error of the last one that failed or was not deleted.
        notes: One line for each dead letter that was not sent, limited in number.
    """

    matched: int = 0
    replayed: int = 0
    undeleted: int = 0
    failed: int = 0
    skipped: int = 0
    earlier: int = 0
    missing: int = 0
    held_back: int = 0
    unseen: int = 0
    last_error: str = ""
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the main counts by name, for JSON."""
        return {
            "matched": self.matched,
            "replayed": self.replayed,
            "undeleted": self.undeleted,
            "failed": self.failed,
            "skipped": self.skipped,
        }

    def note(self, dead_letter: DeadLetter, text: str) -> None:
        """Add a line about a dead letter unless the limit is reached."""
        if len(self.notes) < _NOTES_KEPT:
            self.notes.append(f"{dead_letter.message_id}: {text}")


class ReplayObserver:
    """Progress callbacks of a replay; no-ops by default."""

    def on_scanned(self, count: int) -> None:
        """Handle the number of dead letters scanned so far, whether they match or not."""

    def on_result(self, dead_letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Handle the result of a dead letter that matches the filters."""

    def on_wait(self, until: datetime) -> None:
        """Handle the start of a wait for dead letters that a killed run keeps hidden."""
