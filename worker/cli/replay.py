"""Verb that sends dead letters back to the queue."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from worker.aws.sqs import Queue, open_queues
from worker.cli import screen
from worker.cli.dead_letters.dry_run import DryRunOptions, DryRunReport, show_report
from worker.cli.dead_letters.scanning import note_missing, note_unseen
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, Rate, expand_options
from worker.cli.running import run_async
from worker.domain.dead_letter import original
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSRejectedError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import DryRun
from worker.operations.dead_letters.edit import edit_fields, parse_assignment, replace_with_export
from worker.operations.dead_letters.export_file import read_dead_letters
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import (
    Journal,
    default_path,
    digest,
    open_journal,
    read_journal,
)
from worker.operations.dead_letters.replay import (
    ReplayFigures,
    ReplayObserver,
    Result,
    replay_dry_run,
)
from worker.operations.dead_letters.replay import replay as send_back
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.scan import Scan
from worker.repository import AUPRepository
from worker.runtime.addresses import check_queue
from worker.runtime.clock import utc_now
from worker.settings import Settings, load


@dataclass(frozen=True, slots=True)
class SendOptions:
    """Options for what is sent and where."""

    to: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE", help="Name or URL of the destination queue (default: AUP_QUEUE)."
        ),
    ] = None
    max_replays: Annotated[
        int,
        typer.Option(metavar="COUNT", min=1, help="Maximum number of replays of one message."),
    ] = 5
    from_: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="Edited export with the messages to send."),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Field to set in each message before it is sent; repeatable.",
        ),
    ] = None
    operator: Annotated[
        str | None,
        typer.Option(help="Editor's name to store with the message (default: current user)."),
    ] = None
    journal: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Journal file from which an interrupted replay continues."
        ),
    ] = None


@dataclass(frozen=True, slots=True)
class _Request:
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


@dataclass(frozen=True, slots=True)
class _OpenReplay:
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


@expand_options
def replay(
    options: FilterOptions,
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Message ids (default: all).")
    ] = None,
    rate: Rate = None,
    *,
    predicting: DryRunOptions,
    sending: SendOptions,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also send messages that would be dead-lettered again."),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Send dead letters back to the queue, then delete them.

    A dead letter is deleted only after SQS has confirmed the send. Messages that would be
    dead-lettered again are held back unless --force is passed. An interrupted replay loses nothing;
    run the same command again to continue. Exit codes: 0 success; 1 some failed, were held back,
    not found or not seen; 2 invalid input, nothing sent.

    Example: aup-worker replay --reason unknown_policy --dry-run

    Example: aup-worker replay --reason invalid --set method=clickwrap --rate 50
    """
    if predicting.verbose and not predicting.dry_run:
        raise UsageError("--verbose requires --dry-run")
    request = _request(options, message_ids or (), rate, sending)
    if predicting.dry_run:
        # Messages named one by one are listed one by one.
        rows = predicting.verbose or bool(message_ids)
        show_report(run_async(_run_dry(request)), rows=rows, as_json=as_json)
    else:
        _report(run_async(_replay(request, force=force)), as_json=as_json)


def _request(
    options: FilterOptions, message_ids: Sequence[str], rate: float | None, sending: SendOptions
) -> _Request:
    from_file: Mapping[str, OutgoingMessage] = {}
    edit, edits = None, sending.set_
    if sending.from_ is not None:
        from_file = _read_export(sending.from_)
        if message_ids or sending.set_:
            raise UsageError("--from cannot be combined with ids or --set")
        selected = options.dead_letter_filter(from_file)
        edit = replace_with_export(from_file)
        edits = [each.body for each in from_file.values()]
    else:
        selected = options.dead_letter_filter(message_ids)
        if sending.set_:
            edit = edit_fields([parse_assignment(each) for each in sending.set_])
    # Journals of earlier releases hold a digest of this form.
    form = json.dumps([sorted(selected.ids), astuple(options), sending.to, edits])
    replay_options = ReplayOptions(rate, sending.max_replays, edit, sending.operator or _user())
    return _Request(selected, replay_options, digest(form), sending.to, sending.journal, from_file)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # The user has no name.
        return f"uid {os.getuid()}"


@asynccontextmanager
async def _opened(request: _Request) -> AsyncIterator[_OpenReplay]:
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
        yield _OpenReplay(
            settings,
            source,
            dead_letters,
            replace(request.options, max_bytes=max_bytes),
            DryRun(repository.policy, clock_skew_seconds=settings.clock_skew_seconds, now=utc_now),
            (path, state.arn, request.request_digest, await _name(source)),
            state.visible,
        )


def _read_export(path: Path) -> dict[str, OutgoingMessage]:
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


async def _run_dry(request: _Request) -> DryRunReport:
    """Predict the outcome of each message that a replay would send; send nothing."""
    report = DryRunReport()
    missing = set(request.selected.ids)
    with screen.progress("predicting") as bar:
        async with _opened(request) as replay:
            total = request.selected.total(replay.depth)
            task = bar.add_task("predicting", total=total, rate="")
            options = replace(replay.options, dry_run=replay.dry_run)
            sent = read_journal(*replay.journal)
            scan = Scan(
                replay.dead_letters,
                now=utc_now,
                visibility_timeout_seconds=replay.settings.look_seconds,
            )
            async with scan:
                predictions = replay_dry_run(scan, request.selected, options, sent=sent)
                async for dead_letter, verdict in predictions:
                    missing -= {dead_letter.message_id, dead_letter.original_message_id}
                    report.dead_letters.append((dead_letter.without_content(), verdict))
                    bar.update(task, completed=len(report.dead_letters))
            report.unreadable = replay.dry_run.error
    report.missing = len(missing)
    report.unseen = 0 if request.selected.ids and not missing else scan.unseen
    return report


class _Progress(ReplayObserver):
    """Progress and results of a replay.

    Args:
        bar: Progress bar to update.
        total: Number of dead letters that the filters select; None if the replay counts them.
        depth: Number of dead letters in the queue.
    """

    def __init__(self, bar: Progress, total: int | None, depth: int) -> None:
        self.figures = ReplayFigures()
        self.dead_letters: list[dict[str, Any]] = []
        self._started_at = time.monotonic()
        self._bar = bar
        self._total = total
        self._depth = depth
        self._scanned = 0
        self._task = bar.add_task("replaying", total=total, rate="")

    def on_scanned(self, count: int) -> None:
        """Show the progress of the scan if the number of matches depends on it."""
        self._scanned = count
        self._show()

    def on_result(self, dead_letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Add the result of a dead letter; advance the bar."""
        self.dead_letters.append({**dead_letter.summary(utc_now()), "result": result.value})
        self.figures = figures
        self._show()

    def _show(self) -> None:
        done = len(self.dead_letters)
        text = f"{done / max(self.seconds, 0.001):,.0f}/s"
        if self._total is None:
            text += f", scanned {self._scanned:,} of {max(self._depth, self._scanned):,}"
        self._bar.update(self._task, completed=done, rate=text)

    def on_wait(self, until: datetime) -> None:
        """Show why the replay is waiting."""
        text = f"waiting until {until.astimezone():%H:%M:%S} for messages received by a killed run"
        self._bar.update(self._task, description=text)

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started_at


async def _replay(request: _Request, *, force: bool) -> _Progress:
    with screen.progress("{task.description}") as bar:
        async with _opened(request) as replay:
            # The dry run predicts for the queue of the settings only.
            sends_all = force or request.to not in {None, load().queue}
            with open_journal(*replay.journal) as journal:
                _note_earlier(journal, bar)
                progress = _Progress(bar, request.selected.total(replay.depth), replay.depth)
                options = replace(
                    replay.options,
                    dry_run=None if sends_all else replay.dry_run,
                    journal=journal,
                )
                try:
                    progress.figures = await send_back(
                        replay.source,
                        replay.dead_letters,
                        request.selected,
                        options=options,
                        observer=progress,
                        visibility_timeout_seconds=replay.settings.look_seconds,
                    )
                except asyncio.CancelledError:
                    screen.note(f"replayed {progress.figures.replayed:,} so far", bar)
                    raise
    return progress


def _note_earlier(journal: Journal, bar: Progress) -> None:
    earlier = journal.progress
    if earlier.runs or earlier.outstanding:
        left = len(earlier.outstanding)
        undeleted = f", {left:,} sent but not yet deleted" if left else ""
        screen.note(f"continuing an earlier run: {len(earlier.done):,} replayed{undeleted}", bar)
    if hidden_seconds := earlier.hidden_seconds(utc_now()):
        visible_at = utc_now() + timedelta(seconds=hidden_seconds)
        screen.note(
            "the earlier run was killed; the messages it received become visible at "
            f"{visible_at.astimezone():%H:%M:%S}, and this run waits for them",
            bar,
        )


def _report(progress: _Progress, *, as_json: bool) -> None:
    figures = progress.figures
    if as_json:
        screen.print_json(
            {
                **figures.counts(),
                "earlier": figures.earlier,
                "held_back": figures.held_back,
                "missing": figures.missing,
                "not_seen": figures.unseen,
                "seconds": round(progress.seconds, 3),
                "dry_run": False,
                "notes": figures.notes,
                "dead_letters": progress.dead_letters,
            }
        )
    else:
        screen.note_first(figures.notes, figures.failed + figures.skipped)
    screen.note(_sentence(figures, progress.seconds))
    missing, unseen = note_missing(figures.missing), note_unseen(figures.unseen)
    if figures.failed or figures.undeleted or figures.held_back or missing or unseen:
        raise typer.Exit(1)


def _sentence(figures: ReplayFigures, seconds: float) -> str:
    parts = [f"replayed {figures.replayed:,} of {figures.matched:,} in {seconds:.1f} s"]
    if figures.earlier:
        parts.append(f"{figures.earlier:,} of them by an earlier run")
    too_many = figures.skipped - figures.held_back
    if too_many:
        parts.append(f"{too_many} skipped, maximum number of replays reached")
    if figures.held_back:
        parts.append(
            f"{figures.held_back} skipped, would be dead-lettered again (--force sends them)"
        )
    if figures.failed:
        parts.append(
            f"{figures.failed} failed, still in the dead-letter queue ({figures.last_error})"
        )
    if figures.undeleted:
        parts.append(f"{figures.undeleted} sent but not deleted ({figures.last_error})")
    return "; ".join(parts)
