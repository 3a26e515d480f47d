"""Scans of the dead letters with a progress bar, and their export to a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from rich.text import Text

from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.running import run_async
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.export_file import to_line
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.scan import Scan
from worker.runtime.atomic_file import atomic_file
from worker.runtime.clock import utc_now
from worker.settings import load

_SOON_SECONDS: Final = 86_400


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


async def scan_with_progress(description: str, visit: Callable[[DeadLetter], bool]) -> ScanSummary:
    """Scan the dead letters; each is visible again afterwards.

    Args:
        description: Label of the progress bar.
        visit: Called with each dead letter; returns whether to continue.
    """
    settings = load()
    summary = ScanSummary()
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
                    bar.update(task, completed=summary.seen)
                    if not visit(dead_letter):
                        return summary
    summary.unseen = scan.unseen
    return summary


def note_unseen(count: int) -> bool:
    """Report dead letters that a scan did not see; return whether there were any."""
    if count:
        screen.note(
            f"{counted(count)} not seen: in flight in another scan or replay, or beyond the SQS "
            "limit of 120,000 messages in flight; run this again later"
        )
    return bool(count)


def expiry(expires_at: datetime, at: datetime) -> Text:
    """Return the remaining time as text, highlighted if it is less than a day."""
    seconds = (expires_at - at).total_seconds()
    return Text(screen.duration(seconds), style="bold red" if seconds < _SOON_SECONDS else "")


def counted(count: int) -> str:
    """Return a number of dead letters as text."""
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def export_dead_letters(
    file: Path, selected: DeadLetterFilter, *, overwrite: bool
) -> tuple[list[str], int]:
    """Write dead letters to a file, or to stdout if the file is `-`.

    Returns:
        The ids of the exported dead letters, and the number of dead letters not seen.
    """
    ids: list[str] = []
    with _open(file, overwrite=overwrite) as stream:

        def visit(dead_letter: DeadLetter) -> bool:
            if selected.matches(dead_letter):
                stream.write(f"{to_line(dead_letter)}\n")
                ids.append(dead_letter.message_id)
            return selected.limit is None or len(ids) < selected.limit

        summary = run_async(scan_with_progress("exporting", visit))
    return ids, summary.unseen


@contextmanager
def _open(file: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    if str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with atomic_file(file, overwrite=overwrite, encoding="ascii") as stream:
        yield stream
