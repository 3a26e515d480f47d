"""Dry run of a replay: what it would send, and how that would end."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime

from worker.aws.sqs import Queue
from worker.domain.message import OutgoingMessage
from worker.errors import EditError, Reason
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import DryRun, Verdict
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import Progress
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.replay_progress import Result
from worker.operations.dead_letters.scan import LOOK_SECONDS, Scan, walk


def _now() -> datetime:
    return datetime.now(UTC)


async def rehearse(
    dead_letters: Queue,
    choice: DeadLetterFilter,
    how: ReplayOptions,
    forecast: DryRun,
    *,
    sent: Progress,
    look_seconds: int = LOOK_SECONDS,
    scan: Scan | None = None,
) -> AsyncGenerator[tuple[DeadLetter, Verdict], None]:
    """Say of each dead letter what a replay would do and how it would end; send nothing.

    Args:
        dead_letters: where they are.
        choice: which.
        how: as they would be replayed.
        forecast: judges what would be sent.
        sent: what earlier runs have sent.
        look_seconds: how long a message stays hidden if the walk is killed.
        scan: receives what was seen.
    """
    count = 0
    walking = walk(dead_letters, now=_now, look_seconds=look_seconds, scan=scan)
    async with aclosing(walking) as letters:
        async for letter in letters:
            before = how.was_sent(letter, sent)
            if not before and not choice.matches(letter):
                continue
            verdict = await _verdict(letter, how, forecast)
            if before:
                verdict = Verdict("sent before", "an earlier run sent it; it is only deleted")
            yield letter, verdict
            count += verdict.code != Result.SKIPPED
            if choice.limit is not None and count >= choice.limit:
                break


async def _verdict(letter: DeadLetter, how: ReplayOptions, forecast: DryRun) -> Verdict:
    reason = how.too_often(letter)
    if reason:
        return Verdict(Result.SKIPPED.value, reason)
    try:
        message = how.prepare(letter, _now())
    except EditError as error:
        return Verdict(Result.FAILED.value, str(error))
    return await predict(letter, message, forecast)


async def predict(letter: DeadLetter, message: OutgoingMessage, forecast: DryRun) -> Verdict:
    """Return how sending a message for a dead letter would end."""
    unchanged = message.body == letter.message.body
    if unchanged and letter.reason == Reason.CONFLICT:
        # The record it contradicts is there to stay.
        return Verdict(letter.reason, letter.detail)
    return await forecast.judge(message.body, sent_at=letter.dead_at)
