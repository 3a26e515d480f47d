"""Dry run of a replay: the messages that it would send, and their outcomes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from worker.aws.sqs import Queue
from worker.domain.message import OutgoingMessage
from worker.errors import EditError, Reason
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import DryRun, Verdict
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import Progress
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.replay_progress import Result
from worker.operations.dead_letters.scan import (
    VISIBILITY_TIMEOUT_SECONDS,
    Scan,
    scan_dead_letters,
)
from worker.runtime.clock import utc_now


async def replay_dry_run(
    queue: Queue,
    filters: DeadLetterFilter,
    options: ReplayOptions,
    dry_run: DryRun,
    *,
    sent: Progress,
    visibility_timeout_seconds: int = VISIBILITY_TIMEOUT_SECONDS,
    scan: Scan | None = None,
) -> AsyncGenerator[tuple[DeadLetter, Verdict], None]:
    """Yield each dead letter that a replay would process, with its verdict; send nothing.

    Args:
        queue: The dead-letter queue.
        filters: Which dead letters to process.
        options: Options of the replay.
        dry_run: Predicts the outcome of a message.
        sent: Messages that earlier runs sent.
        visibility_timeout_seconds: How long a message stays hidden if the dry run is killed.
        scan: State of the scan to update.
    """
    count = 0
    scanning = scan_dead_letters(
        queue, now=utc_now, visibility_timeout_seconds=visibility_timeout_seconds, scan=scan
    )
    async with aclosing(scanning) as dead_letters:
        async for dead_letter in dead_letters:
            was_sent = options.was_sent(dead_letter, sent)
            if not was_sent and not filters.matches(dead_letter):
                continue
            verdict = await _verdict(dead_letter, options, dry_run)
            if was_sent:
                verdict = Verdict("sent before", "sent by an earlier run; will only be deleted")
            yield dead_letter, verdict
            count += verdict.code != Result.SKIPPED
            if filters.limit is not None and count >= filters.limit:
                break


async def _verdict(dead_letter: DeadLetter, options: ReplayOptions, dry_run: DryRun) -> Verdict:
    reason = options.skip_reason(dead_letter)
    if reason:
        return Verdict(Result.SKIPPED.value, reason)
    try:
        message = options.prepare(dead_letter, utc_now())
    except EditError as error:
        return Verdict(Result.FAILED.value, str(error))
    return await predict(dead_letter, message, dry_run)


async def predict(dead_letter: DeadLetter, message: OutgoingMessage, dry_run: DryRun) -> Verdict:
    """Return the predicted outcome of a message that would be sent for a dead letter."""
    unchanged = message.body == dead_letter.message.body
    if unchanged and dead_letter.reason == Reason.CONFLICT:
        # The record that it contradicts is never deleted.
        return Verdict(dead_letter.reason, dead_letter.detail)
    return await dry_run.check(message.body, sent_at=dead_letter.dead_at)
