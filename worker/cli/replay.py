"""Verb that sends dead letters back to the queue."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from collections.abc import Mapping
from dataclasses import astuple, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress

from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.dead_letters.dry_run import run_dry, show_report
from worker.cli.dead_letters.replay_request import (
    ReplayRequest,
    destination_name,
    note_missing,
    options_for,
    read_export,
)
from worker.cli.dead_letters.scanning import note_unseen
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, Rate, expand_options
from worker.cli.running import run_async
from worker.domain.message import OutgoingMessage
from worker.errors import UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.edit import (
    EditFunction,
    edit_fields,
    parse_assignment,
    replace_with_export,
)
from worker.operations.dead_letters.journal import Journal, digest, open_journal
from worker.operations.dead_letters.replay import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.replay import replay as send_back
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.repository import AUPRepository
from worker.runtime.clock import utc_now

_MAX_REPLAYS: Final = 5


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
    ] = _MAX_REPLAYS
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

    def replay_options(
        self, rate: float | None, from_file: Mapping[str, OutgoingMessage] | None
    ) -> ReplayOptions:
        """Return the options of a replay at a rate, edited as these options say."""
        edit = _edit(from_file, self.set_)
        return ReplayOptions(rate, self.max_replays, edit, self.operator or _user())


@expand_options
def replay(
    options: FilterOptions,
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Message ids (default: all).")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Predict the outcome of each message; send nothing.")
    ] = False,
    rate: Rate = None,
    *,
    sending: SendOptions,
    force: Annotated[
        bool,
        typer.Option("--force", help="Also send messages that would be dead-lettered again."),
    ] = False,
    as_json: AsJSON = False,
) -> None:
    """Send dead letters back to the queue, then delete them.

    A dead letter is deleted only after SQS has confirmed the send. Messages that would be dead-
    lettered again are held back unless --force is passed. An interrupted replay loses nothing; run
    the same command again to continue. Exit codes: 0 success; 1 some failed, were held back, not
    found or not seen; 2 invalid input, nothing sent.

    Example: aup-worker replay --reason unknown_policy --dry-run

    Example: aup-worker replay --reason invalid --set method=clickwrap --rate 50
    """
    from_file = None if sending.from_ is None else read_export(sending.from_)
    if from_file is not None and (message_ids or sending.set_):
        raise UsageError("--from cannot be combined with ids or --set")
    selected = options.dead_letter_filter(message_ids or () if from_file is None else from_file)
    edits = sending.set_ if from_file is None else [each.body for each in from_file.values()]
    # Journals of earlier releases hold a digest of this form.
    form = json.dumps([sorted(selected.ids), astuple(options), sending.to, edits])
    request = ReplayRequest(
        selected,
        sending.replay_options(rate, from_file),
        digest(form),
        sending.to,
        sending.journal,
        from_file or {},
        force,
    )
    if dry_run:
        show_report(run_async(run_dry(request)), as_json=as_json)
    else:
        _report(run_async(_replay(request)), as_json=as_json)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # The user has no name.
        return f"uid {os.getuid()}"


def _edit(
    from_file: Mapping[str, OutgoingMessage] | None, assignments: list[str] | None
) -> EditFunction | None:
    if from_file is not None:
        return replace_with_export(from_file)
    if assignments:
        return edit_fields([parse_assignment(each) for each in assignments])
    return None


class _Progress(ReplayObserver):
    """Progress and results of a replay.

    Args:
        bar: Progress bar to update.
        total: Number of selected dead letters; None if only the depth of the queue is known.
        depth: Number of dead letters in the queue.
    """

    def __init__(self, bar: Progress, total: int | None, depth: int) -> None:
        self.figures = ReplayFigures()
        self.dead_letters: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._started_at = time.monotonic()
        self._bar = bar
        self._total_known = total is not None
        self._total = depth if total is None else total
        self._task = bar.add_task("replaying", total=self._total, rate="")

    def on_scanned(self, count: int) -> None:
        """Advance the bar by scanned dead letters if the number of matches is unknown."""
        if not self._total_known:
            self._bar.update(self._task, completed=min(count, self._total))

    def on_result(self, dead_letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Add the result of a dead letter; update the rate."""
        self.dead_letters.append({**dead_letter.summary(utc_now()), "result": result.value})
        self.figures = figures
        self.tick()
        this_run = figures.matched - figures.earlier
        rate = f"{this_run / max(self.seconds, 0.001):,.0f}/s"
        self._bar.update(self._task, rate=rate)
        if self._total_known:
            self._bar.update(self._task, completed=len(self.dead_letters))

    def on_wait(self, until: datetime) -> None:
        """Show why the replay is waiting."""
        text = f"waiting until {until.astimezone():%H:%M:%S} for messages received by a killed run"
        self._bar.update(self._task, description=text)

    def tick(self) -> None:
        """Update the elapsed time."""
        self.seconds = time.monotonic() - self._started_at


async def _replay(request: ReplayRequest) -> _Progress:
    settings = request.settings()
    with screen.progress("{task.description}") as bar:
        async with (
            open_queues(settings) as (source, dead_letters),
            AUPRepository(settings.aws) as repository,
        ):
            state = await dead_letters.state()
            if source.url == dead_letters.url:
                raise UsageError("--to: the destination must not be the dead-letter queue")
            options = await options_for(request, source)
            path = request.journal_path(state.arn)
            to = await destination_name(source)
            options = replace(options, dry_run=request.check(repository, settings))
            with open_journal(path, state.arn, request.request_digest, to) as journal:
                _note_earlier(journal, bar)
                progress = _Progress(bar, request.total, state.visible)
                try:
                    progress.figures = await send_back(
                        source,
                        dead_letters,
                        request.selected,
                        options=replace(options, journal=journal),
                        observer=progress,
                        visibility_timeout_seconds=settings.look_seconds,
                    )
                except asyncio.CancelledError:
                    screen.note(f"replayed {progress.figures.replayed:,} so far", bar)
                    raise
    progress.tick()
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
        for note in figures.notes:
            screen.note(note)
        unsent = figures.failed + figures.skipped
        if unsent > len(figures.notes):
            screen.note(f"… and {unsent - len(figures.notes)} more")
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
