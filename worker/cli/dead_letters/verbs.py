"""Verbs of `dead-letters`, each imported when it runs."""

from __future__ import annotations

import typer

from worker.cli.lazy import Verb, lazy_group

app = typer.Typer(
    cls=lazy_group(
        {
            "list": Verb(
                "dead_letters.listing:list_", "List dead letters, soonest to expire first."
            ),
            "show": Verb(
                "dead_letters.show:show", "Show one dead letter in full, with its errors marked."
            ),
            "export": Verb(
                "dead_letters.export:export", "Export complete dead letters to a JSON Lines file."
            ),
            "purge": Verb(
                "dead_letters.export:purge",
                "Export dead letters to a file, then delete them permanently.",
            ),
        }
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show, export and purge dead letters.",
)
