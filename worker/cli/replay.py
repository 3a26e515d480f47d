"""Verb that sends dead letters back to the queue."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import Progress

from worker.aws.sqs import open_queues
from worker.cli import screen
from worker.cli.dead_letters.dry_run import DryRunOptions, show_report
from worker.cli.dead_letters.scanning import note_missing, note_unseen
from worker.cli.filters import FilterOptions
from worker.cli.names import current_user
from worker.cli.options import AsJSON, Rate, expand_options
from worker.cli.running import run_async
from worker.domain.message import OutgoingMessage
from worker.errors import UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run_report import DryRunReport, run_dry
from worker.operations.dead_letters.export_file import read_dead_letters
from worker.operations.dead_letters.journal import open_journal
from worker.operations.dead_letters.replay import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.replay import replay as send_back
from worker.operations.dead_letters.replay_request import (
    MAX_REPLAYS,
    OpenReplay,
    ReplayRequest,
    ReplayTexts,
    open_replay,
    parse_request,
)
from worker.operations.dead_letters.scan import Scan
from worker.operations.dead_letters.sentences import continued, replayed, waiting
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
    ] = MAX_REPLAYS
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
    request = _request(options, message_ids or [], sending, rate_per_second=rate, force=force)
    if predicting.dry_run:
        # Messages named one by one are listed one by one.
        rows = predicting.verbose or bool(message_ids)
        report = run_async(_run_dry(request, sending.journal))
        show_report(report, rows=rows, as_json=as_json)
    else:
        _report(run_async(_replay(request, sending.journal)), as_json=as_json)


def _request(
    options: FilterOptions,
    ids: list[str],
    sending: SendOptions,
    *,
    rate_per_second: float | None,
    force: bool,
) -> ReplayRequest:
    texts = ReplayTexts(
        ids=tuple(ids),
        texts=options,
        set_=tuple(sending.set_ or ()),
        rate_per_second=rate_per_second,
        max_replays=sending.max_replays,
        operator=sending.operator or current_user(),
        to=sending.to,
        force=force,
        from_file=sending.from_ is not None,
    )
    return parse_request(texts, None if sending.from_ is None else _read_export(sending.from_))


@asynccontextmanager
async def _opened(
    request: ReplayRequest, journal: Path | None
) -> AsyncIterator[tuple[OpenReplay, Settings]]:
    """Open the queues and tables of a replay, and check its destination.

    Raises:
        UsageError: The destination does not exist or cannot receive the messages.
    """
    settings, to = load(), request.texts.to
    if to is not None:
        try:
            settings = settings.model_copy(update={"queue": check_queue(to)})
        except ValueError as error:
            raise UsageError(f"--to {to}: {error}") from None
    async with open_queues(settings) as queues, AUPRepository(settings.aws) as repository:
        opening = open_replay(
            request, queues, repository, settings, journal=journal, note=screen.note_first
        )
        yield await opening, settings


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


async def _run_dry(request: ReplayRequest, journal: Path | None) -> DryRunReport:
    """Predict the outcome of each message that a replay would send; send nothing."""
    with screen.progress("predicting") as bar:
        async with _opened(request, journal) as (replay, settings):
            total = request.selected.total(replay.depth)
            task = bar.add_task("predicting", total=total, rate="")
            scan = Scan(
                replay.dead_letters,
                now=utc_now,
                visibility_timeout_seconds=settings.look_seconds,
            )
            async with scan:
                report = await run_dry(
                    scan, request, replay, lambda count: bar.update(task, completed=count)
                )
    if not request.selected.ids or report.missing:
        report.unseen = scan.unseen
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
        self._bar.update(self._task, description=waiting(until))

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._started_at


async def _replay(request: ReplayRequest, path: Path | None) -> _Progress:
    with screen.progress("{task.description}") as bar:
        async with _opened(request, path) as (replay, settings):
            # The dry run predicts for the queue of the settings only.
            sends_all = request.texts.force or request.texts.to not in {None, load().queue}
            with open_journal(*replay.journal, request.texts.to_json()) as journal:
                for line in continued(journal.progress, utc_now()):
                    screen.note(line, bar)
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
                        visibility_timeout_seconds=settings.look_seconds,
                    )
                except asyncio.CancelledError:
                    screen.note(f"replayed {progress.figures.replayed:,} so far", bar)
                    raise
    return progress


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
    screen.note(replayed(figures, progress.seconds))
    missing, unseen = note_missing(figures.missing), note_unseen(figures.unseen)
    if figures.failed or figures.undeleted or figures.held_back or missing or unseen:
        raise typer.Exit(1)
