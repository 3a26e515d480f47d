"""The verb that keeps dead letters in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from worker.cli import screen
from worker.cli.dead_letters.scanning import AsJSON, counted, file_letters, note_unseen
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
from worker.errors import UsageError


def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; - is stdout.")],
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Write dead letters to a file, whole, as JSON Lines.

    Nothing is taken. The file is there whole or not at all. After editing, `replay --from` sends
    it. Exit codes: 0 done, 1 not all dead letters were seen.

    Example: aup-worker dead-letters export dead.jsonl --reason invalid
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
    on_stdout = str(file) == "-"
    if on_stdout and as_json:
        raise UsageError("--json: stdout holds the dead letters already")
    ids, unseen = file_letters(file, chosen, overwrite=force)
    if as_json:
        screen.print_json({"exported": len(ids), "file": str(file), "not_seen": unseen})
    else:
        screen.note(f"exported {counted(len(ids))} to {'stdout' if on_stdout else file}")
    if note_unseen(unseen):
        raise typer.Exit(1)
