"""The verb that sends dead letters back."""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import time
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import Progress

from worker.aws.queue_lookup import open_queues
from worker.aws.sqs import Queue
from worker.cli import screen
from worker.cli.dead_letters.dry_run import DryRunReport, print_rehearsal
from worker.cli.dead_letters.scanning import note_unseen
from worker.cli.filters import (
    Grep,
    Limit,
    Policies,
    Reasons,
    Since,
    Until,
    Users,
    Versions,
    choice,
)
from worker.cli.running import run_async
from worker.domain.dead_letter import original
from worker.domain.message import OutgoingMessage
from worker.errors import AWSDeniedError, AWSRejectedError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import SUCCEEDS, DryRun
from worker.operations.dead_letters.edit import (
    EditFunction,
    edit_fields,
    parse_assignment,
    replace_with_export,
)
from worker.operations.dead_letters.export_file import read_dead_letters
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import (
    Journal,
    default_path,
    digest,
    open_journal,
    read_journal,
)
from worker.operations.dead_letters.replay import replay as send_back
from worker.operations.dead_letters.replay_dry_run import replay_dry_run
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.replay_progress import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.scan import Scan
from worker.repository import AUPRepository
from worker.settings import Settings, check_queue, load

_BAD_LINES_SHOWN: Final = 20
_MAX_REPLAYS: Final = 5


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class _Order:
    """What the command line asks for.

    Attributes:
        asked: digest of all that says which letters go where, and how they are edited.
        to: another queue than that of the settings.
        journal: another file than the default one.
        filed: What an edited export has, by the ids of its dead letters.
        force: whether to send what would be dead-lettered again, too.
    """

    choice: DeadLetterFilter
    manner: ReplayOptions
    asked: str
    to: str | None
    journal: Path | None
    filed: Mapping[str, OutgoingMessage]
    force: bool = False

    def settings(self) -> Settings:
        """Give the settings, the queue to send to in its place."""
        settings = load()
        if self.to is None:
            return settings
        try:
            return settings.model_copy(update={"queue": check_queue(self.to)})
        except ValueError as error:
            raise UsageError(f"--to {self.to}: {error}") from None

    def forecast(self, repository: AUPRepository, settings: Settings) -> DryRun:
        """Return what predicts the outcome of a message."""
        return DryRun(repository, clock_skew_seconds=settings.clock_skew_seconds, now=_now)

    def check(self, repository: AUPRepository, settings: Settings) -> DryRun | None:
        """Return what decides whether a message is held back; None where all are sent.

        Only what a worker of the same settings takes would be dead-lettered: another queue than
        its own may be for anything.
        """
        if self.force or self.to not in {None, load().queue}:
            return None
        return self.forecast(repository, settings)

    def path(self, queue_arn: str) -> Path:
        """Say where the journal is."""
        return self.journal or default_path(queue_arn, os.environ)

    @property
    def total(self) -> int | None:
        """How many dead letters are chosen at most; None where nobody knows."""
        return self.choice.limit or len(self.choice.ids) or None


def replay(  # noqa: PLR0913, PLR0917 - one parameter an option
    message_ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Only these; all, if absent.")
    ] = None,
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Limit = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Say what would be sent and whether it would succeed; send nothing."
        ),
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="RATE", min=0.1, help="Messages a second at most.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="QUEUE", help="Queue to send to, by name or URL; AUP_QUEUE, if absent."
        ),
    ] = None,
    max_replays: Annotated[
        int, typer.Option(metavar="COUNT", min=1, help="Skip what was replayed so often already.")
    ] = _MAX_REPLAYS,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="FILE", help="Send what this file has instead: an export, edited."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="To set in each body before it is sent; repeatable.",
        ),
    ] = None,
    operator: Annotated[
        str | None, typer.Option(help="Who edits; you, if absent. It travels with the message.")
    ] = None,
    journal: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="File that lets an interrupted replay go on."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Send what would be dead-lettered again, too.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON on stdout.")] = False,
) -> None:
    """Send dead letters back: each sent, verified, then deleted.

    What would be dead-lettered again stays where it is, unless --force is passed. An interruption
    at any moment loses nothing; a second run goes on and reports the whole. Exit codes: 0 done, 1
    some failed, were held back, not found or not seen, 2 nothing sent because the input is wrong.

    Example: aup-worker replay --reason unknown_policy --dry-run

    Example: aup-worker replay --reason invalid --set method=clickwrap --rate 50
    """
    filed = None if from_ is None else _read(from_)
    if filed is not None and (message_ids or set_):
        raise UsageError("--from says which and how to edit: leave out ids and --set")
    chosen = choice(
        ids=message_ids if filed is None else list(filed),
        reasons=reason, users=user, policies=policy, versions=version,
        since=since, until=until, grep=grep, limit=limit,
    )  # fmt: skip
    edits = set_ if filed is None else [each.body for each in filed.values()]
    filters = [reason, user, policy, version, since, until, grep, limit]
    asked = digest(json.dumps([sorted(chosen.ids), filters, to, edits]))
    manner = ReplayOptions(rate, max_replays, _repair(filed, set_), operator or _user())
    order = _Order(chosen, manner, asked, to, journal, filed or {}, force)
    if dry_run:
        _report_rehearsal(run_async(_rehearse(order)), as_json=as_json)
    else:
        _report(run_async(_replay(order)), as_json=as_json)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # nobody has given this user a name
        return f"uid {os.getuid()}"


def _repair(
    filed: Mapping[str, OutgoingMessage] | None, assignments: list[str] | None
) -> EditFunction | None:
    if filed is not None:
        return replace_with_export(filed)
    if assignments:
        return edit_fields([parse_assignment(each) for each in assignments])
    return None


def _read(path: Path) -> dict[str, OutgoingMessage]:
    """Read an export, all of it before anything is sent."""
    letters, bad = read_dead_letters(path)
    for each in bad[:_BAD_LINES_SHOWN]:
        screen.note(str(each))
    if len(bad) > _BAD_LINES_SHOWN:
        screen.note(f"… and {len(bad) - _BAD_LINES_SHOWN} more")
    if bad:
        raise UsageError(f"{len(bad)} lines of {path} are bad; nothing was sent")
    return letters


async def _fitted(order: _Order, source: Queue) -> ReplayOptions:
    """Return the options with the destination's own limit, against which a file is checked whole.

    Raises:
        UsageError: The destination is a FIFO queue, or does not take what the file has.
    """
    unknown = await source.check_destination()
    if unknown:
        screen.note(
            f"aup-worker: cannot read MaximumMessageSize of {source.url}, "
            f"{source.message_max_bytes:,} bytes assumed: {unknown}"
        )
    limit = source.message_max_bytes
    bad = [
        f"{message_id}: {refused}"
        for message_id, message in order.filed.items()
        if (refused := original(message).why_refused(limit))
    ]
    for each in bad[:_BAD_LINES_SHOWN]:
        screen.note(each)
    if bad:
        raise UsageError(f"{len(bad)} dead letters of the file are refused; nothing was sent")
    return replace(order.manner, max_bytes=limit)


async def _destination(queue: Queue) -> str:
    """Return what the journal calls a queue: its ARN, the same through every endpoint."""
    try:
        return (await queue.state()).arn or queue.url
    except (AWSDeniedError, AWSRejectedError):  # it may be sent to all the same
        return queue.url


async def _rehearse(order: _Order) -> DryRunReport:
    settings = order.settings()
    found, scan = DryRunReport(), Scan()
    missing = set(order.choice.ids)
    with screen.progress("looking") as bar:
        async with (
            open_queues(settings) as (source, queue),
            AUPRepository(settings.aws) as repository,
        ):
            manner = await _fitted(order, source)
            state = await queue.state()
            to = await _destination(source)
            forecast = order.forecast(repository, settings)
            task = bar.add_task("looking", total=order.total or state.visible, rate="")
            rehearsal = replay_dry_run(
                queue, order.choice, manner, forecast,
                sent=read_journal(order.path(state.arn), state.arn, order.asked, to),
                visibility_timeout_seconds=settings.look_seconds, scan=scan,
            )  # fmt: skip
            async with aclosing(rehearsal) as judged:
                async for letter, verdict in judged:
                    missing -= {letter.message_id, letter.original_message_id}
                    found.letters.append((letter.without_content(), verdict))
                    bar.update(task, completed=len(found.letters))
            found.unreadable = forecast.error
    found.missing = len(missing)
    found.unseen = 0 if order.choice.ids and not missing else scan.unseen
    return found


def _report_rehearsal(found: DryRunReport, *, as_json: bool) -> None:
    if as_json:
        at = _now()
        screen.print_json(found.report([letter.summary(at) for letter, _ in found.letters]))
    else:
        print_rehearsal(found)
    screen.note(
        f"{len(found.letters):,} chosen, {found.verdicts[SUCCEEDS]:,} would succeed; "
        "nothing was sent"
    )
    if found.unreadable:
        screen.note(
            f"the policies cannot be read, so who would succeed is open: {found.unreadable}"
        )
    missing, unseen = _note_missing(found.missing), note_unseen(found.unseen)
    if missing or unseen or found.unreadable:
        raise typer.Exit(1)


def _note_missing(missing: int) -> bool:
    if missing:
        screen.note(f"{missing} of the ids are not among the dead letters; they were not sent")
    return bool(missing)


class _Done(ReplayObserver):
    """What a replay did, letter by letter, shown as it goes on.

    Args:
        bar: shows it.
        total: how many are chosen; None where only the queue's depth is known.
        depth: how many dead letters there are.
    """

    def __init__(self, bar: Progress, total: int | None, depth: int) -> None:
        self.figures = ReplayFigures()
        self.letters: list[dict[str, Any]] = []
        self.seconds = 0.0
        self._began_at = time.monotonic()
        self._bar = bar
        self._by_letters = total is not None
        self._total = depth if total is None else total
        self._task = bar.add_task("replaying", total=self._total, rate="")

    def on_scanned(self, count: int) -> None:
        """Go on by what was looked at: how many the filters choose, nobody knows."""
        if not self._by_letters:
            self._bar.update(self._task, completed=min(count, self._total))

    def on_result(self, letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Note what became of a letter, and the rate."""
        self.letters.append({**letter.summary(_now()), "result": result.value})
        self.figures = figures
        self.tick()
        here = figures.matched - figures.earlier
        rate = f"{here / max(self.seconds, 0.001):,.0f}/s"
        self._bar.update(self._task, rate=rate)
        if self._by_letters:
            self._bar.update(self._task, completed=len(self.letters))

    def on_wait(self, until: datetime) -> None:
        """Say why nothing moves."""
        text = f"waiting until {until.astimezone():%H:%M:%S} for what a killed run hides"
        self._bar.update(self._task, description=text)

    def tick(self) -> None:
        """Take the time."""
        self.seconds = time.monotonic() - self._began_at


async def _replay(order: _Order) -> _Done:
    settings = order.settings()
    with screen.progress("{task.description}") as bar:
        async with (
            open_queues(settings) as (source, dead_letters),
            AUPRepository(settings.aws) as repository,
        ):
            state = await dead_letters.state()
            if source.url == dead_letters.url:
                raise UsageError("a replay goes from the dead letters to another queue: see --to")
            manner = await _fitted(order, source)
            path = order.path(state.arn)
            to = await _destination(source)
            how = replace(manner, dry_run=order.check(repository, settings))
            with open_journal(path, state.arn, order.asked, to) as journal:
                _note_earlier(journal, bar)
                done = _Done(bar, order.total, state.visible)
                try:
                    done.figures = await send_back(
                        source,
                        dead_letters,
                        order.choice,
                        options=replace(how, journal=journal),
                        observer=done,
                        visibility_timeout_seconds=settings.look_seconds,
                    )
                except asyncio.CancelledError:
                    screen.note(f"replayed {done.figures.replayed:,} so far", bar)
                    raise
    done.tick()
    return done


def _note_earlier(journal: Journal, bar: Progress) -> None:
    before = journal.progress
    if before.runs or before.outstanding:
        left = len(before.outstanding)
        told = f", {left:,} sent and to be deleted yet" if left else ""
        screen.note(f"going on with an earlier run: {len(before.done):,} replayed{told}", bar)
    if hidden_seconds := before.hidden_seconds(_now()):
        visible_at = _now() + timedelta(seconds=hidden_seconds)
        screen.note(
            "it was killed; what it took shows itself again at "
            f"{visible_at.astimezone():%H:%M:%S}, and this run waits for that at its end",
            bar,
        )


def _report(done: _Done, *, as_json: bool) -> None:
    figures = done.figures
    if as_json:
        screen.print_json(
            {
                **figures.counts(),
                "earlier": figures.earlier,
                "held_back": figures.held_back,
                "missing": figures.missing,
                "not_seen": figures.unseen,
                "seconds": round(done.seconds, 3),
                "dry_run": False,
                "notes": figures.notes,
                "dead_letters": done.letters,
            }
        )
    else:
        for note in figures.notes:
            screen.note(note)
        unsent = figures.failed + figures.skipped
        if unsent > len(figures.notes):
            screen.note(f"… and {unsent - len(figures.notes)} more")
    screen.note(_sentence(figures, done.seconds))
    missing, unseen = _note_missing(figures.missing), note_unseen(figures.unseen)
    if figures.failed or figures.undeleted or figures.held_back or missing or unseen:
        raise typer.Exit(1)


def _sentence(figures: ReplayFigures, seconds: float) -> str:
    parts = [f"replayed {figures.replayed:,} of {figures.matched:,} in {seconds:.1f} s"]
    if figures.earlier:
        parts.append(f"{figures.earlier:,} of them were sent by an earlier run")
    too_often = figures.skipped - figures.held_back
    if too_often:
        parts.append(f"{too_often} skipped, replayed too often before")
    if figures.held_back:
        parts.append(
            f"{figures.held_back} skipped, would be dead-lettered again (--force sends them)"
        )
    if figures.failed:
        parts.append(f"{figures.failed} not sent, still dead letters ({figures.last_error})")
    if figures.undeleted:
        parts.append(f"{figures.undeleted} sent, but not deleted here ({figures.last_error})")
    return "; ".join(parts)
