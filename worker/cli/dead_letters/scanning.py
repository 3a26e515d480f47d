"""Scans of the dead letters with a progress bar, and texts of their results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from worker.aws.sqs import open_queues
from worker.cli import screen
from worker.operations.dead_letters import sentences
from worker.operations.dead_letters.dead_letter import EXPIRES_SOON_SECONDS, DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.scan import Scan
from worker.runtime.clock import utc_now
from worker.runtime.quantities import duration
from worker.settings import load


@dataclass(slots=True)
class ScanSummary:
    """Counts of a scan.

    Attributes:
        seen: Dead letters received.
        known: Approximate number of dead letters, as SQS reports it.
        unseen: Dead letters that SQS reports but did not return; 0 if the scan ended early.
    """

    seen: int = 0
    known: int = 0
    unseen: int = 0


async def scan_with_progress(
    description: str, selected: DeadLetterFilter, visit: Callable[[DeadLetter], object]
) -> ScanSummary:
    """Scan the dead letters up to the limit of a filter; each is visible again afterwards.

    Args:
        description: Label of the progress bar.
        selected: Dead letters to visit.
        visit: Called with each dead letter that matches.
    """
    settings = load()
    summary, matching = ScanSummary(), 0
    with screen.progress(description) as bar:
        async with open_queues(settings) as (_, queue):
            summary.known = (await queue.state()).depth
            task = bar.add_task(description, total=summary.known, rate="")
            scan = Scan(
                queue,
                now=utc_now,
                visibility_timeout_seconds=settings.look_seconds,
                polls=settings.poll_concurrency,
            )
            async with scan:
                async for dead_letter in scan:
                    summary.seen += 1
                    if selected.matches(dead_letter):
                        visit(dead_letter)
                        matching += 1
                    bar.update(task, completed=summary.seen, rate=f"{matching:,} match")
                    if matching == selected.limit:
                        return summary
    summary.unseen = scan.unseen
    return summary


def note_unseen(count: int) -> bool:
    """Report dead letters that a scan did not see; return whether there were any."""
    if count:
        screen.note(sentences.unseen(count))
    return bool(count)


def note_missing(count: int) -> bool:
    """Report ids that are not among the dead letters; return whether there were any."""
    if count:
        screen.note(sentences.missing(count))
    return bool(count)


def expiry(expires_at: datetime, at: datetime) -> Text:
    """Return the remaining time as text, highlighted if it is less than a day."""
    seconds = (expires_at - at).total_seconds()
    return Text(duration(seconds), style="bold red" if seconds < EXPIRES_SOON_SECONDS else "")
