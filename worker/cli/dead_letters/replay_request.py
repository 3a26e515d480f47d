"""A replay as requested on the command line, for a dry run or for real."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from worker.aws.queue_lookup import open_queues
from worker.aws.sqs import Queue
from worker.cli import screen
from worker.domain.dead_letter import original
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSRejectedError, UsageError
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.export_file import read_dead_letters
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import default_path
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.settings import Settings, check_queue, load


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A replay as requested on the command line.

    Attributes:
        request_digest: Digest of all options that determine which dead letters are sent where, and
            how they are edited.
        to: Destination queue; None for the queue of the settings.
        journal: Journal file; None for the default file.
        from_file: Messages of an edited export, by the ids of their dead letters.
    """

    selected: DeadLetterFilter
    options: ReplayOptions
    request_digest: str
    to: str | None
    journal: Path | None
    from_file: Mapping[str, OutgoingMessage]

    @property
    def total(self) -> int | None:
        """Maximum number of selected dead letters; None if unknown."""
        return self.selected.limit or len(self.selected.ids) or None


@dataclass(frozen=True, slots=True)
class OpenReplay:
    """A requested replay with open queues and tables.

    Attributes:
        source: Destination queue.
        options: Options with the message size limit of the destination.
        dry_run: Predicts what a worker with these settings would do with a message.
        journal: Path of the journal, ARN of the dead-letter queue, digest of the request and name
            of the destination.
        depth: Number of visible dead letters.
    """

    settings: Settings
    source: Queue
    dead_letters: Queue
    options: ReplayOptions
    dry_run: DryRun
    journal: tuple[Path, str, str, str]
    depth: int


@asynccontextmanager
async def opened(request: ReplayRequest) -> AsyncIterator[OpenReplay]:
    """Open the queues and tables of a replay, and check its destination.

    Raises:
        UsageError: The destination does not exist or cannot receive the messages.
    """
    settings = load()
    if request.to is not None:
        try:
            settings = settings.model_copy(update={"queue": check_queue(request.to)})
        except ValueError as error:
            raise UsageError(f"--to {request.to}: {error}") from None
    async with (
        open_queues(settings) as (source, dead_letters),
        AUPRepository(settings.aws) as repository,
    ):
        state = await dead_letters.state()
        if source.url == dead_letters.url:
            raise UsageError("--to: the destination must not be the dead-letter queue")
        max_bytes = await _message_max_bytes(source, request.from_file)
        path = request.journal or default_path(state.arn, os.environ)
        yield OpenReplay(
            settings,
            source,
            dead_letters,
            replace(request.options, max_bytes=max_bytes),
            DryRun(repository, clock_skew_seconds=settings.clock_skew_seconds, now=utc_now),
            (path, state.arn, request.request_digest, await _name(source)),
            state.visible,
        )


def read_export(path: Path) -> dict[str, OutgoingMessage]:
    """Read an edited export completely, before anything is sent.

    Raises:
        UsageError: A line is invalid.
    """
    messages, invalid = read_dead_letters(path)
    if invalid:
        screen.note_first(invalid)
        raise UsageError(f"{path}: {len(invalid)} invalid lines; nothing was sent")
    return messages


async def _message_max_bytes(queue: Queue, from_file: Mapping[str, OutgoingMessage]) -> int:
    """Return the message size limit of the destination.

    Raises:
        UsageError: The destination is a FIFO queue, or a message of the file does not fit it.
    """
    unknown = await queue.check_destination()
    limit = queue.message_max_bytes
    if unknown:
        screen.note(
            f"aup-worker: cannot read MaximumMessageSize of {queue.url}, assuming "
            f"{limit:,} bytes: {unknown}"
        )
    refused = [
        f"{message_id}: {reason}"
        for message_id, message in from_file.items()
        if (reason := original(message).why_refused(limit))
    ]
    if refused:
        screen.note_first(refused)
        raise UsageError(
            f"{len(refused)} dead letters of the file cannot be sent to the queue; nothing was sent"
        )
    return limit


async def _name(queue: Queue) -> str:
    """Return the journal's name for a queue: its ARN, which is the same for every endpoint."""
    try:
        return (await queue.state()).arn or queue.url
    except (AWSDeniedError, AWSRejectedError):  # Sending may be allowed nevertheless.
        return queue.url


def note_missing(count: int) -> bool:
    """Report ids that are not among the dead letters; return whether there were any."""
    if count:
        screen.note(f"ids not found among the dead letters, so not sent: {count}")
    return bool(count)
