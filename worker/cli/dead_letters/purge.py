"""The verb that deletes dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.dead_letters.scanning import AsJSON, counted, file_letters, note_unseen, now
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
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.purge import PurgeFigures
from worker.operations.dead_letters.purge import purge as delete
from worker.settings import load


def purge(  # noqa: PLR0913, PLR0917 - one parameter an option
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Limit = None,
    file: Annotated[
        Path | None,
        typer.Option("--export", help="Where to keep them; dead-letters-TIME.jsonl, if absent."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Delete dead letters for good, written to a file first.

    It asks before it deletes. What is deleted is what the file holds. Exit codes: 0 done, 1 not
    all were deleted or seen.

    Example: aup-worker dead-letters purge --reason malformed --until 7d
    """
    chosen = choice(
        reasons=reason,
        users=user,
        policies=policy,
        versions=version,
        since=since,
        until=until,
        grep=grep,
        limit=limit,
    )
    file = file or Path(f"dead-letters-{now():%Y%m%dT%H%M%SZ}.jsonl")
    if str(file) == "-":
        raise UsageError("--export -: what is deleted is kept in a file")
    ids, unseen = file_letters(file, chosen, overwrite=False)
    if not ids:
        file.unlink()
    elif not yes:
        _ask(len(ids), file)
    figures = run_async(_purge(ids)) if ids else PurgeFigures()
    _report(figures, ids, unseen, file, as_json=as_json)


def _ask(count: int, file: Path) -> None:
    screen.note(f"{counted(count)} will be deleted for good; {file} holds them")
    try:
        answer = typer.prompt(
            "Type their number to go on", default="", show_default=False, err=True
        )
    except typer.Abort:
        answer = ""
    if answer.strip() != str(count):
        raise AUPError(f"not confirmed; nothing was deleted, and {file} stays")


async def _purge(ids: list[str]) -> PurgeFigures:
    settings = load()
    with screen.progress("deleting") as bar:
        task = bar.add_task("deleting", total=len(ids), rate="")
        async with open_queues(settings) as (_, queue):
            return await delete(
                queue,
                ids,
                now=now,
                visibility_timeout_seconds=settings.look_seconds,
                polls=settings.poll_concurrency,
                progress=lambda figures: bar.update(task, completed=figures.deleted),
            )


def _report(
    figures: PurgeFigures, ids: list[str], unseen: int, file: Path, *, as_json: bool
) -> None:
    missing = len(ids) - figures.deleted - figures.failed
    if as_json:
        screen.print_json(
            {
                "exported": len(ids),
                "file": str(file) if ids else None,
                "deleted": figures.deleted,
                "failed": figures.failed,
                "missing": missing,
                "not_seen": unseen,
            }
        )
    elif not ids:
        screen.note("no dead letters match; nothing was deleted")
    else:
        screen.note(f"deleted {figures.deleted} of {len(ids)}; {file} holds them")
    if figures.failed:
        screen.note(f"{figures.failed} could not be deleted ({figures.last_error})")
    if missing:
        screen.note(f"{missing} were not found again: replayed, deleted or held by others")
    if note_unseen(unseen) or figures.failed or missing:
        raise typer.Exit(1)
