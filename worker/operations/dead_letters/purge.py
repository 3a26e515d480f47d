"""Dead letters deleted for good, and no other than those that were named."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from worker.aws.sqs import Queue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.operations.dead_letters.retrying import patiently
from worker.operations.dead_letters.scan import LOOK_SECONDS, Scan, walk


@dataclass(slots=True)
class PurgeFigures:
    """What a purge did, so far.

    Attributes:
        deleted: gone for good.
        failed: found, but not deleted.
        last_error: why the last one failed.
    """

    deleted: int = 0
    failed: int = 0
    last_error: str = ""


async def purge(
    queue: Queue,
    ids: Collection[str],
    *,
    now: Callable[[], datetime],
    look_seconds: int = LOOK_SECONDS,
    polls: int = 1,
    progress: Callable[[PurgeFigures], None] = lambda _: None,
) -> PurgeFigures:
    """Delete dead letters, each by the handle that it was handed out with just now.

    Args:
        queue: the dead-letter queue.
        ids: what it calls those that go.
        now: gives the present time, aware.
        look_seconds: how long a message stays hidden if the purge is killed.
        polls: how many are under way at most.
        progress: told after each batch.

    Returns:
        How many went; those that were not found count neither as deleted nor as failed.
    """
    figures = PurgeFigures()
    left = set(ids)
    batch: list[ReceivedMessage] = []
    scan = Scan()

    async def flush() -> None:
        nonlocal batch
        due, batch = batch, []
        await _delete(queue, scan, due, figures)
        progress(figures)

    walking = walk(queue, now=now, look_seconds=look_seconds, at_end=flush, polls=polls, scan=scan)
    async with aclosing(walking) as letters:
        async for letter in letters:
            if letter.message_id not in left:
                continue
            left.discard(letter.message_id)
            batch.append(letter.message)
            if len(batch) == BATCH_MAX_ENTRIES or not left:
                await flush()
            if not left:
                break
    return figures


async def _delete(
    queue: Queue, scan: Scan, messages: list[ReceivedMessage], figures: PurgeFigures
) -> None:
    results = await patiently(queue.delete, list(map(scan.newest, messages)))
    pairs = zip(messages, results, strict=True)
    scan.deleted(each.message_id for each, error in pairs if error is None)
    errors = [error for error in results if error is not None]
    figures.deleted += len(messages) - len(errors)
    figures.failed += len(errors)
    figures.last_error = str(errors[-1]) if errors else figures.last_error
