"""A replay as an operator requests it, on the command line or in the console."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from worker.aws.sqs import Queue
from worker.domain.dead_letter import original
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSRejectedError, UsageError
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import edit_fields, parse_assignment, replace_with_export
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.filter_texts import FilterTexts
from worker.operations.dead_letters.journal import default_path, digest
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now
from worker.settings import Settings

MAX_REPLAYS: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayTexts:
    """A replay as text, which the journal keeps so that another program can resume it.

    Attributes:
        ids: Message ids; all dead letters that match if empty.
        texts: Texts of the filter.
        set_: Assignments FIELD=VALUE.
        rate_per_second: Maximum rate of messages; None for no limit.
        max_replays: Maximum number of replays of one message.
        operator: Name of the person.
        to: Name or URL of the destination; None for the queue of the settings.
        force: Whether messages are sent that would be dead-lettered again.
        from_file: Whether the messages came from an edited export, which is not part of the texts.
        selection: How the ids were selected, for people; empty if they were typed.
    """

    ids: tuple[str, ...] = ()
    texts: FilterTexts = field(default_factory=FilterTexts)
    set_: tuple[str, ...] = ()
    rate_per_second: float | None = None
    max_replays: int = MAX_REPLAYS
    operator: str = ""
    to: str | None = None
    force: bool = False
    from_file: bool = False
    selection: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the texts for the journal."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ReplayTexts | None:
        """Return the texts from a journal; None if it holds none, or those of a later version."""
        try:
            texts = FilterTexts(**data["texts"])
            changed = {name: tuple(data[name]) for name in ("ids", "set_")}
            return cls(**{**data, **changed, "texts": texts})
        except (KeyError, TypeError):
            return None


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """A requested replay.

    Attributes:
        texts: The request as text.
        selected: Dead letters to replay.
        options: Options of the replay.
        request_digest: Digest of everything that determines which dead letters are sent where, and
            how they are edited.
        from_file: Messages of an edited export, by the ids of their dead letters.
    """

    texts: ReplayTexts
    selected: DeadLetterFilter
    options: ReplayOptions
    request_digest: str
    from_file: Mapping[str, OutgoingMessage] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """Maximum number of selected dead letters; None if unknown."""
        return self.selected.limit or len(self.selected.ids) or None


def parse_request(
    texts: ReplayTexts, from_file: Mapping[str, OutgoingMessage] | None = None
) -> ReplayRequest:
    """Return the replay that texts describe.

    Args:
        texts: The request.
        from_file: Messages of an edited export, which replace ids and assignments.

    Raises:
        UsageError: A text is invalid.
    """
    edit, edits = None, list(texts.set_) or None
    if from_file is not None:
        if texts.ids or texts.set_:
            raise UsageError("--from cannot be combined with ids or --set")
        selected = texts.texts.dead_letter_filter(from_file)
        edit = replace_with_export(from_file)
        edits = [each.body for each in from_file.values()]
    else:
        selected = texts.texts.dead_letter_filter(texts.ids)
        if texts.set_:
            edit = edit_fields([parse_assignment(each) for each in texts.set_])
    # Journals of earlier releases hold a digest of this form.
    form = json.dumps([sorted(selected.ids), astuple(texts.texts), texts.to, edits])
    options = ReplayOptions(texts.rate_per_second, texts.max_replays, edit, texts.operator)
    return ReplayRequest(texts, selected, options, digest(form), from_file or {})


@dataclass(frozen=True, slots=True)
class OpenReplay:
    """A requested replay with its queues and tables.

    Attributes:
        source: Destination queue.
        dead_letters: The dead-letter queue.
        options: Options with the message size limit of the destination.
        dry_run: Predicts what a worker with these settings would do with a message.
        journal: Path of the journal, ARN of the dead-letter queue, digest of the request and name
            of the destination.
        depth: Number of visible dead letters.
    """

    source: Queue
    dead_letters: Queue
    options: ReplayOptions
    dry_run: DryRun
    journal: tuple[Path, str, str, str]
    depth: int


async def open_replay(
    request: ReplayRequest,
    queues: tuple[Queue, Queue],
    repository: AUPRepository,
    settings: Settings,
    *,
    journal: Path | None = None,
    note: Callable[[Sequence[str]], object] = lambda _: None,
) -> OpenReplay:
    """Check the destination of a replay.

    Args:
        request: The requested replay.
        queues: The destination and the dead-letter queue.
        repository: Repository of policies.
        settings: Settings of the worker whose decisions are predicted.
        journal: Path of the journal; the default path if None.
        note: Called with lines of further information.

    Raises:
        UsageError: The destination does not exist or cannot receive the messages.
    """
    source, dead_letters = queues
    state = await dead_letters.state()
    if source.url == dead_letters.url:
        raise UsageError("--to: the destination must not be the dead-letter queue")
    max_bytes = await _message_max_bytes(source, request.from_file, note)
    path = journal or default_path(state.arn, os.environ)
    skew_seconds = settings.clock_skew_seconds
    return OpenReplay(
        source,
        dead_letters,
        replace(request.options, max_bytes=max_bytes),
        DryRun(repository.policy, clock_skew_seconds=skew_seconds, now=utc_now),
        (path, state.arn, request.request_digest, await _name(source)),
        state.visible,
    )


async def _message_max_bytes(
    queue: Queue, from_file: Mapping[str, OutgoingMessage], note: Callable[[Sequence[str]], object]
) -> int:
    """Return the message size limit of the destination.

    Raises:
        UsageError: The destination is a FIFO queue, or a message of the file does not fit it.
    """
    unknown = await queue.check_destination()
    limit = queue.message_max_bytes
    if unknown:
        sentence = f"aup-worker: cannot read MaximumMessageSize of {queue.url}, assuming "
        note([f"{sentence}{limit:,} bytes: {unknown}"])
    refused = [
        f"{message_id}: {reason}"
        for message_id, message in from_file.items()
        if (reason := original(message).why_refused(limit))
    ]
    if refused:
        note(refused)
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
