"""Verb that deletes dead letters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.aws.sqs import open_queues
from worker.cli import screen
from worker.cli.dead_letters.scanning import counted, export_dead_letters, note_unseen
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, Yes, expand_options
from worker.cli.running import run_async
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.purge import PurgeFigures
from worker.operations.dead_letters.purge import purge as delete
from worker.runtime.clock import utc_now
from worker.settings import load


@expand_options
def purge(
    options: FilterOptions,
    file: Annotated[
        Path | None,
        typer.Option("--export", help="Export file (default: dead-letters-TIME.jsonl)."),
    ] = None,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Export dead letters to a file, then delete them permanently.

    Asks for confirmation before deleting. Only exported dead letters are deleted. Exit codes: 0
    success, 1 not all dead letters were seen or deleted.

    Example: aup-worker dead-letters purge --reason malformed --until 7d
    """
    file = file or Path(f"dead-letters-{utc_now():%Y%m%dT%H%M%SZ}.jsonl")
    if str(file) == "-":
        raise UsageError("--export -: expected a file, because exported dead letters are deleted")
    ids, unseen = export_dead_letters(file, options.dead_letter_filter(), overwrite=False)
    if not ids:
        file.unlink()
    elif not yes:
        _confirm(len(ids), file)
    figures = run_async(_purge(ids)) if ids else PurgeFigures()
    _report(figures, ids, unseen, file, as_json=as_json)


def _confirm(count: int, file: Path) -> None:
    screen.note(f"{counted(count)} will be deleted permanently; exported to {file}")
    try:
        typed = typer.prompt(
            "Type the number of dead letters to continue",
            default="",
            show_default=False,
            err=True,
        )
    except typer.Abort:
        typed = ""
    if typed.strip() != str(count):
        raise AUPError(f"not confirmed; nothing was deleted, the export stays in {file}")


async def _purge(ids: list[str]) -> PurgeFigures:
    settings = load()
    with screen.progress("deleting") as bar:
        task = bar.add_task("deleting", total=len(ids), rate="")
        async with open_queues(settings) as (_, queue):
            return await delete(
                queue,
                ids,
                now=utc_now,
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
        screen.note(f"deleted {figures.deleted} of {len(ids)}; exported to {file}")
    if figures.failed:
        screen.note(f"{figures.failed} could not be deleted ({figures.last_error})")
    if missing:
        screen.note(f"{missing} not found: replayed, deleted or in flight elsewhere")
    if note_unseen(unseen) or figures.failed or missing:
        raise typer.Exit(1)
