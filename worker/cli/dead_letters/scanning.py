"""A look through the dead letters, with progress on the screen; and what it finds, in a file."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from rich.text import Text

from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.running import run_async
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.export_file import new_file, to_line
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.scan import Scan, scan_dead_letters
from worker.settings import load

_SOON_SECONDS: Final = 86_400
AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def now() -> datetime:
    """Give the present time."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Sight:
    """What a walk saw.

    Attributes:
        seen: dead letters handed out.
        known: how many there were by SQS's own approximate count.
        unseen: how many the queue reports that were not handed out; 0 where the scan was left
            early.
    """

    seen: int = 0
    known: int = 0
    unseen: int = 0


async def look(description: str, take: Callable[[DeadLetter], bool]) -> Sight:
    """Go through the dead letters, each of which is visible again afterwards.

    Args:
        description: what the progress bar says.
        take: given each of them; says whether to go on.
    """
    settings = load()
    sight, scan = Sight(), Scan()
    with screen.progress(description) as bar:
        async with open_queues(settings) as (_, queue):
            sight.known = (await queue.state()).depth
            task = bar.add_task(description, total=sight.known, rate="")
            scanning = scan_dead_letters(
                queue,
                now=now,
                visibility_timeout_seconds=settings.look_seconds,
                polls=settings.poll_concurrency,
                scan=scan,
            )
            async with aclosing(scanning) as letters:
                async for letter in letters:
                    sight.seen += 1
                    bar.update(task, completed=sight.seen)
                    if not take(letter):
                        return sight
    sight.unseen = scan.unseen
    return sight


def note_unseen(count: int) -> bool:
    """Report dead letters that a scan did not see; return whether there are any."""
    if count:
        screen.note(
            f"{count:,} not seen (in flight elsewhere): another scan or replay hides them, or SQS "
            "hands out no more at once (120,000); run this again later"
        )
    return bool(count)


def expiry(expires_at: datetime, at: datetime) -> Text:
    """Write how long is left, loud where it is less than a day."""
    seconds = (expires_at - at).total_seconds()
    return Text(screen.duration(seconds), style="bold red" if seconds < _SOON_SECONDS else "")


def counted(count: int) -> str:
    """Write how many dead letters."""
    return f"{count:,} dead letter{'' if count == 1 else 's'}"


def file_letters(file: Path, chosen: DeadLetterFilter, *, overwrite: bool) -> tuple[list[str], int]:
    """Write dead letters to a file, or to stdout where it is `-`.

    Returns:
        The ids of those written, and how many dead letters were not seen.
    """
    ids: list[str] = []
    with _opened(file, overwrite=overwrite) as stream:

        def take(letter: DeadLetter) -> bool:
            if chosen.matches(letter):
                stream.write(f"{to_line(letter)}\n")
                ids.append(letter.message_id)
            return chosen.limit is None or len(ids) < chosen.limit

        sight = run_async(look("exporting", take))
    return ids, sight.unseen


@contextmanager
def _opened(file: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    if str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with new_file(file, overwrite=overwrite) as stream:
        yield stream
