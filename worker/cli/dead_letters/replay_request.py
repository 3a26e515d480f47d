"""A replay as requested on the command line, for a dry run or for real."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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

_ERRORS_SHOWN_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A replay as requested on the command line.

    Attributes:
        request_digest: Digest of all options that determine which dead letters are sent where, and
            how they are edited.
        to: Destination queue; None for the queue of the settings.
        journal: Journal file; None for the default file.
        from_file: Messages of an edited export, by the ids of their dead letters.
        force: Whether to send messages that would be dead-lettered again.
    """

    selected: DeadLetterFilter
    options: ReplayOptions
    request_digest: str
    to: str | None
    journal: Path | None
    from_file: Mapping[str, OutgoingMessage]
    force: bool = False

    def settings(self) -> Settings:
        """Return the settings with the destination queue as their queue."""
        settings = load()
        if self.to is None:
            return settings
        try:
            return settings.model_copy(update={"queue": check_queue(self.to)})
        except ValueError as error:
            raise UsageError(f"--to {self.to}: {error}") from None

    def dry_run(self, repository: AUPRepository, settings: Settings) -> DryRun:
        """Return a predictor of message outcomes."""
        return DryRun(
            repository.policy, clock_skew_seconds=settings.clock_skew_seconds, now=utc_now
        )

    def check(self, repository: AUPRepository, settings: Settings) -> DryRun | None:
        """Return the check that holds messages back, or None to send all of them.

        The check predicts what a worker with these settings would do, so it does not apply to
        another destination queue.
        """
        if self.force or self.to not in {None, load().queue}:
            return None
        return self.dry_run(repository, settings)

    def journal_path(self, queue_arn: str) -> Path:
        """Return the path of the journal."""
        return self.journal or default_path(queue_arn, os.environ)

    @property
    def total(self) -> int | None:
        """Maximum number of selected dead letters; None if unknown."""
        return self.selected.limit or len(self.selected.ids) or None


def read_export(path: Path) -> dict[str, OutgoingMessage]:
    """Read an edited export completely, before anything is sent.

    Raises:
        UsageError: A line is invalid.
    """
    messages, invalid = read_dead_letters(path)
    for each in invalid[:_ERRORS_SHOWN_MAX]:
        screen.note(each)
    if len(invalid) > _ERRORS_SHOWN_MAX:
        screen.note(f"… and {len(invalid) - _ERRORS_SHOWN_MAX} more")
    if invalid:
        raise UsageError(f"{path}: {len(invalid)} invalid lines; nothing was sent")
    return messages


async def options_for(request: ReplayRequest, destination: Queue) -> ReplayOptions:
    """Return the replay options with the message size limit of the destination.

    Raises:
        UsageError: The destination is a FIFO queue, or a message of the file does not fit it.
    """
    unknown = await destination.check_destination()
    if unknown:
        screen.note(
            f"aup-worker: cannot read MaximumMessageSize of {destination.url}, assuming "
            f"{destination.message_max_bytes:,} bytes: {unknown}"
        )
    limit = destination.message_max_bytes
    refused = [
        f"{message_id}: {reason}"
        for message_id, message in request.from_file.items()
        if (reason := original(message).why_refused(limit))
    ]
    for each in refused[:_ERRORS_SHOWN_MAX]:
        screen.note(each)
    if refused:
        raise UsageError(
            f"{len(refused)} dead letters of the file cannot be sent to the queue; nothing was sent"
        )
    return replace(request.options, max_bytes=limit)


async def destination_name(queue: Queue) -> str:
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
