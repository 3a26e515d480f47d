"""Counts of a replay start at zero, and their notes are limited in number."""

from __future__ import annotations

from tests.simulation.virtual_clock import START
from tests.unit.fakes import received_message
from worker.operations.dead_letters.dead_letter import describe
from worker.operations.dead_letters.replay_progress import ReplayFigures, Result


def test_counts_start_at_zero_and_include_every_result() -> None:
    counts = ReplayFigures().counts()
    assert set(counts.values()) == {0}
    assert set(counts) == {"matched", *Result}


def test_notes_are_limited_in_number() -> None:
    figures = ReplayFigures()
    for number in range(30):
        message = received_message(number)
        figures.note(describe(message, retention_seconds=60, now=START), "not sent")
    assert len(figures.notes) == 20
    assert figures.notes[0] == "message-0: not sent"
