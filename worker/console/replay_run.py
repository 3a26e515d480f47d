"""Progress of a replay that the console runs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Final

from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.replay import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.replay_request import ReplayTexts
from worker.operations.dead_letters.sentences import waiting
from worker.runtime.clock import utc_now

_RATE_SECONDS: Final = 10.0


class State(StrEnum):
    """State of a run."""

    RUNNING = "running"
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(slots=True)
class ReplayRun(ReplayObserver):
    """Progress of a replay that this console started.

    Attributes:
        texts: What is replayed.
        total: Number of selected dead letters; None if unknown.
        clock: Returns monotonic time in seconds.
        removed: Called with the id of each dead letter that left the queue.
        state: Whether it still runs, and how it ended.
        figures: Counts so far.
        scanned: Dead letters scanned so far.
        notes: What is known of earlier runs, one line each.
        waiting: Why it waits; empty if it does not.
        waits_until: Until when it waits, on the clock; 0 if it does not.
        now: Returns the current time, timezone-aware.
        error: Why it failed; empty if it did not.
    """

    texts: ReplayTexts
    total: int | None
    clock: Callable[[], float]
    removed: Callable[[str], None]
    now: Callable[[], datetime] = utc_now
    state: State = State.RUNNING
    figures: ReplayFigures = field(default_factory=ReplayFigures)
    scanned: int = 0
    notes: list[str] = field(default_factory=list)
    waiting: str = ""
    waits_until: float = 0.0
    error: str = ""
    _started_at: float = 0.0
    _ended_at: float | None = None
    _samples: deque[tuple[float, int]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self._started_at = self.clock()

    @property
    def seconds(self) -> float:
        """Duration so far."""
        return (self.clock() if self._ended_at is None else self._ended_at) - self._started_at

    @property
    def done(self) -> int:
        """Number of dead letters with a result, those of earlier runs included."""
        figures = self.figures
        return figures.replayed + figures.undeleted + figures.failed + figures.skipped

    @property
    def per_second(self) -> float | None:
        """Rate of the last seconds; None if it is not known yet."""
        if self._ended_at is not None:
            this_run = self.done - self.figures.earlier
            return this_run / self.seconds if self.seconds else None
        if self.waiting or len(self._samples) < 2:  # noqa: PLR2004 - a rate needs two samples
            return None
        (start, before), (_, now) = self._samples[0], self._samples[-1]
        seconds = max(self.clock() - start, 0.001)
        return (now - before) / seconds

    @property
    def remaining_seconds(self) -> float | None:
        """Estimated time to the end; None if it is unknown."""
        if self.waiting:
            return max(0.0, self.waits_until - self.clock())
        rate = self.per_second
        if self.state is not State.RUNNING or self.total is None or not rate:
            return None
        return max(0, self.total - self.done) / rate

    def on_scanned(self, count: int) -> None:
        """Count a scanned dead letter."""
        self.scanned = count
        self.waiting = ""

    def on_result(self, dead_letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Update the counts and the rate."""
        self.figures = figures
        if result is Result.REPLAYED:
            self.removed(dead_letter.message_id)
        now = self.clock()
        self._samples.append((now, self.done))
        while now - self._samples[0][0] > _RATE_SECONDS:
            self._samples.popleft()

    def on_wait(self, until: datetime) -> None:
        """Note why the replay waits, and until when."""
        self.waiting = waiting(until)
        self.waits_until = self.clock() + (until - self.now()).total_seconds()
        self._samples.clear()

    def end(self, state: State, error: str = "") -> None:
        """Note how the run ended."""
        self.state, self.error, self.waiting = state, error, ""
        self._ended_at = self.clock()
