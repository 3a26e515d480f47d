"""Dead letters sent back to where they came from, none lost on the way."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from worker.backoff import full_jitter
from worker.dead_letter import original
from worker.dead_letters import LOOK_SECONDS, DeadLetter, ReplayChoice, walk
from worker.delivery import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES
from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.queue import Queue

_ATTEMPTS: Final = 5


@dataclass(slots=True)
class ReplayFigures:
    """What a replay did, so far.

    Attributes:
        matched: dead letters that the filters chose.
        replayed: sent, verified and deleted from the dead letters.
        undeleted: sent and verified, but still among the dead letters too.
        failed: not sent, still among the dead letters.
    """

    matched: int = 0
    replayed: int = 0
    undeleted: int = 0
    failed: int = 0
    last_error: str = ""

    def figures(self) -> dict[str, int]:
        """Give the counts under their names."""
        return {
            "matched": self.matched,
            "replayed": self.replayed,
            "undeleted": self.undeleted,
            "failed": self.failed,
        }


async def replay(
    source: Queue,
    dead_letters: Queue,
    choice: ReplayChoice,
    *,
    progress: Callable[[DeadLetter, ReplayFigures], None] | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    look_seconds: int = LOOK_SECONDS,
) -> ReplayFigures:
    """Send dead letters back to where they came from.

    Each entry is sent, its confirmation verified, and deleted from the dead letters only then. An
    interruption at any moment loses nothing: at worst a message is in both queues, and the worker
    finds the second one recorded.

    Args:
        source: where they go.
        dead_letters: where they are.
        choice: which.
        progress: told after each.
        now: gives the present time, aware.
        look_seconds: how long a message stays hidden if the replay is killed.
    """
    figures = ReplayFigures()
    batch: list[DeadLetter] = []
    size = 0
    died_at: dict[bytes, datetime] = {}

    async def flush() -> None:
        nonlocal batch, size
        due, batch, size = batch, [], 0
        if due:
            await _replay_batch(source, dead_letters, due, choice, figures, progress)

    # The last batch leaves before the walk shows its messages again: a handle whose visibility
    # has ended may delete nothing.
    walking = walk(dead_letters, now=now, look_seconds=look_seconds, at_end=flush)
    async with aclosing(walking) as letters:
        async for letter in letters:
            if not choice.matches(letter) or _is_back(letter, died_at):
                continue
            figures.matched += 1
            bytes_more = original(letter.delivery).size_bytes
            if batch and (len(batch) == BATCH_MAX_ENTRIES or size + bytes_more > MESSAGE_MAX_BYTES):
                await flush()
            batch.append(letter)
            size += bytes_more
            if choice.limit is not None and figures.matched >= choice.limit:
                break
        await flush()
    return figures


def _is_back(letter: DeadLetter, died_at: dict[bytes, datetime]) -> bool:
    """Say whether it died again of being replayed: beside a quick worker there were no end to it.

    What died first is remembered by its body's digest; both times are SQS's own.
    """
    digest = hashlib.sha256(letter.delivery.body.encode("utf-8", "surrogatepass")).digest()
    before = died_at.setdefault(digest, letter.dead_at)
    return before is not letter.dead_at and letter.sent_at >= before


async def _replay_batch(
    source: Queue,
    dead_letters: Queue,
    batch: list[DeadLetter],
    choice: ReplayChoice,
    figures: ReplayFigures,
    progress: Callable[[DeadLetter, ReplayFigures], None] | None,
) -> None:
    if not choice.dry_run:
        sent = await _patiently(
            lambda letters: source.send([original(letter.delivery) for letter in letters]), batch
        )
        confirmed = [letter for letter, error in zip(batch, sent, strict=True) if error is None]
        deleted = await _patiently(
            lambda letters: dead_letters.delete([letter.delivery for letter in letters]), confirmed
        )
        figures.replayed += sum(error is None for error in deleted)
        figures.undeleted += sum(error is not None for error in deleted)
        figures.failed += len(batch) - len(confirmed)
        errors = (str(error) for error in [*sent, *deleted] if error)
        figures.last_error = next(errors, figures.last_error)
    if progress is not None:
        for letter in batch:
            progress(letter, figures)


async def _patiently(call: Any, letters: list[DeadLetter]) -> list[AWSError | None]:
    """Repeat what failed in passing, entry by entry."""
    results: list[AWSError | None] = [None] * len(letters)
    waiting = list(range(len(letters)))
    for attempt in range(1, _ATTEMPTS + 1):
        if not waiting:
            break
        if attempt > 1:
            await asyncio.sleep(full_jitter(attempt, base_seconds=0.2, cap_seconds=5.0))
        try:
            answers = await call([letters[index] for index in waiting])
        except AWSError as error:
            answers = [error] * len(waiting)
        for index, answer in zip(waiting, answers, strict=True):
            results[index] = answer
        passing = (AWSThrottledError, AWSUnavailableError)
        waiting = [index for index in waiting if isinstance(results[index], passing)]
    return results
