"""Verb that exports dead letters to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli import screen
from worker.cli.dead_letters.scanning import counted, export_dead_letters, note_unseen
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, Force, expand_options
from worker.errors import UsageError


@expand_options
def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Output file; - for stdout.")],
    options: FilterOptions,
    force: Force = False,
    as_json: AsJSON = False,
) -> None:
    """Export complete dead letters to a JSON Lines file.

    The dead letters stay in the queue. The file is written completely or not at all. To send
    edited dead letters, use `replay --from`. Exit codes: 0 success, 1 not all dead letters were
    seen.

    Example: aup-worker dead-letters export dead.jsonl --reason invalid
    """
    on_stdout = str(file) == "-"
    if on_stdout and as_json:
        raise UsageError("--json cannot be combined with -: both write to stdout")
    ids, unseen = export_dead_letters(file, options.dead_letter_filter(), overwrite=force)
    if as_json:
        screen.print_json({"exported": len(ids), "file": str(file), "not_seen": unseen})
    else:
        screen.note(f"exported {counted(len(ids))} to {'stdout' if on_stdout else file}")
    if note_unseen(unseen):
        raise typer.Exit(1)
