"""Counts and progress of a replay."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from worker.operations.dead_letters.dead_letter import DeadLetter

_NOTES_KEPT: Final = 20


class Result(StrEnum):
    """What became of a dead letter that was chosen."""

    REPLAYED = "replayed"
    UNDELETED = "undeleted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class ReplayFigures:
    """What a replay did, so far, together with the runs that it goes on with.

    Attributes:
        matched: dead letters that the filters chose.
        replayed: sent, verified and deleted from the dead letters.
        undeleted: sent and verified, but still among the dead letters too.
        failed: not sent, still among the dead letters.
        skipped: replayed too often before, or held back; still among the dead letters.
        held_back: of those skipped, what would be dead-lettered again.
        earlier: of those replayed, what earlier runs had sent.
        missing: ids that were asked for and are no dead letters.
        unseen: dead letters that the queue reports and did not hand out.
        last_error: of those that failed or were not deleted.
        notes: a line for each of the first that were not sent.
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

    def figures(self) -> dict[str, int]:
        """Give the counts under their names."""
        return {
            "matched": self.matched,
            "replayed": self.replayed,
            "undeleted": self.undeleted,
            "failed": self.failed,
            "skipped": self.skipped,
        }

    def note(self, letter: DeadLetter, text: str) -> None:
        """Keep a line on a dead letter, unless there are many."""
        if len(self.notes) < _NOTES_KEPT:
            self.notes.append(f"{letter.message_id}: {text}")


class ReplayObserver:
    """Told how a replay goes on; this one makes nothing of it."""

    def saw(self, count: int) -> None:
        """Take note of how many dead letters were looked at so far, chosen or not."""

    def entered(self, letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Take note of what became of one that was chosen."""

    def waits(self, until: datetime) -> None:
        """Take note that nothing is left but what a killed run hides until then."""
