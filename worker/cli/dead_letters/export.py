"""Verbs that export dead letters: export, and purge, which then deletes them."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from worker.aws.sqs import open_queues
from worker.cli import screen
from worker.cli.dead_letters.scanning import note_unseen, scan_with_progress
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, Force, Yes, expand_options
from worker.cli.output import ExportDir, output_path
from worker.cli.running import run_async
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.export_file import to_line
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.purge import PurgeFigures
from worker.operations.dead_letters.purge import purge as delete
from worker.runtime.atomic_file import atomic_file
from worker.runtime.clock import utc_now
from worker.runtime.quantities import counted
from worker.settings import load


@expand_options
def export(
    options: FilterOptions,
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="FILE", help="Output file (default: dead-letters-TIME.jsonl); - for stdout."
        ),
    ] = None,
    output_dir: ExportDir = None,
    force: Force = False,
    as_json: AsJSON = False,
) -> None:
    """Export complete dead letters to a JSON Lines file.

    The dead letters stay in the queue. The file is written completely or not at all; it contains
    personal data, and only its owner can read it. To send edited dead letters, use `replay --from`.
    Exit codes: 0 success, 1 not all dead letters were seen.

    Example: aup-worker dead-letters export dead.jsonl --reason invalid
    """
    file = output_path(file, output_dir, _default_name())
    on_stdout = str(file) == "-"
    if on_stdout and as_json:
        raise UsageError("--json cannot be combined with -: both write to stdout")
    ids, unseen = _export(file, options.dead_letter_filter(), overwrite=force)
    if as_json:
        screen.print_json({"exported": len(ids), "file": str(file), "not_seen": unseen})
    else:
        screen.note(
            f"exported {counted(len(ids), 'dead letter')} to {'stdout' if on_stdout else file}"
        )
    if note_unseen(unseen):
        raise typer.Exit(1)


@expand_options
def purge(
    options: FilterOptions,
    file: Annotated[
        Path | None,
        typer.Option(
            "--export", metavar="FILE", help="Export file (default: dead-letters-TIME.jsonl)."
        ),
    ] = None,
    output_dir: ExportDir = None,
    yes: Yes = False,
    as_json: AsJSON = False,
) -> None:
    """Export dead letters to a file, then delete them permanently.

    Asks for confirmation before deleting. Only exported dead letters are deleted. Exit codes: 0
    success, 1 not all dead letters were seen or deleted.

    Example: aup-worker dead-letters purge --reason malformed --until 7d
    """
    file = output_path(file, output_dir, _default_name())
    if str(file) == "-":
        raise UsageError("--export -: expected a file, because exported dead letters are deleted")
    ids, unseen = _export(file, options.dead_letter_filter(), overwrite=False)
    if not ids:
        file.unlink()
    elif not yes:
        _confirm(len(ids), file)
    figures = run_async(_purge(ids)) if ids else PurgeFigures()
    _report(figures, ids, unseen, file, as_json=as_json)


def _default_name() -> str:
    return f"dead-letters-{utc_now():%Y%m%dT%H%M%SZ}.jsonl"


def _confirm(count: int, file: Path) -> None:
    screen.note(f"{counted(count, 'dead letter')} will be deleted permanently; exported to {file}")
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


def _export(file: Path, selected: DeadLetterFilter, *, overwrite: bool) -> tuple[list[str], int]:
    """Write dead letters to a file, or to stdout if the file is `-`.

    Returns:
        The ids of the exported dead letters, and the number of dead letters not seen.
    """
    ids: list[str] = []
    with (
        nullcontext(sys.stdout)
        if str(file) == "-"
        else atomic_file(file, overwrite=overwrite, encoding="ascii")
    ) as stream:

        def write(dead_letter: DeadLetter) -> None:
            stream.write(f"{to_line(dead_letter)}\n")
            ids.append(dead_letter.message_id)

        summary = run_async(scan_with_progress("exporting", selected, write))
        stream.flush()
    return ids, summary.unseen
