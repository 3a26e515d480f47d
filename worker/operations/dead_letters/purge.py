"""Permanent deletion of dead letters by id."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime

from worker.aws.sqs import Queue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.operations.dead_letters.scan import REPLAY_RETRIES, VISIBILITY_TIMEOUT_SECONDS, Scan
from worker.runtime.retry import retry_entries


@dataclass(slots=True)
class PurgeFigures:
    """Counts of a purge so far.

    Attributes:
        deleted: Dead letters deleted.
        failed: Dead letters found, but not deleted.
        last_error: Error of the last one that failed.
    """

    deleted: int = 0
    failed: int = 0
    last_error: str = ""


async def purge(
    queue: Queue,
    ids: Collection[str],
    *,
    now: Callable[[], datetime],
    visibility_timeout_seconds: int = VISIBILITY_TIMEOUT_SECONDS,
    polls: int = 1,
    progress: Callable[[PurgeFigures], None] = lambda _: None,
) -> PurgeFigures:
    """Scan the dead-letter queue and delete the dead letters with the given ids.

    Args:
        queue: The dead-letter queue.
        ids: Their ids in the dead-letter queue.
        now: Returns the current time, timezone-aware.
        visibility_timeout_seconds: How long messages stay hidden if the purge is killed.
        polls: Maximum number of concurrent polls.
        progress: Called after each batch.

    Returns:
        The counts; a dead letter that was not found counts neither as deleted nor as failed.
    """
    figures, remaining = PurgeFigures(), set(ids)
    batch: list[ReceivedMessage] = []
    scan = Scan(queue, now=now, visibility_timeout_seconds=visibility_timeout_seconds, polls=polls)

    async def flush() -> None:
        await _delete(queue, scan, batch, figures)
        batch.clear()
        progress(figures)

    async with scan:
        async for dead_letter in scan:
            if dead_letter.message_id in remaining:
                remaining.discard(dead_letter.message_id)
                batch.append(dead_letter.message)
            if len(batch) == BATCH_MAX_ENTRIES:
                await flush()
            if not remaining:
                break
        await flush()
    return figures


async def _delete(
    queue: Queue, scan: Scan, messages: list[ReceivedMessage], figures: PurgeFigures
) -> None:
    handles = list(map(scan.newest, messages))
    results = await retry_entries(REPLAY_RETRIES, queue.delete, handles)
    pairs = zip(messages, results, strict=True)
    scan.deleted(each.message_id for each, error in pairs if error is None)
    errors = [error for error in results if error is not None]
    figures.deleted += len(messages) - len(errors)
    figures.failed += len(errors)
    figures.last_error = str(errors[-1]) if errors else figures.last_error
