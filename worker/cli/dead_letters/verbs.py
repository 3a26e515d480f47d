"""The verbs for dead letters, imported one by one."""

from __future__ import annotations

import typer

from worker.cli.lazy import Verb, lazy_group

app = typer.Typer(
    cls=lazy_group(
        {
            "list": Verb(
                "worker.cli.dead_letters.listing:list_",
                "List dead letters, the first to expire first; nothing is taken.",
            ),
            "show": Verb(
                "worker.cli.dead_letters.show:show",
                "Show one dead letter whole, what is wrong marked.",
            ),
            "export": Verb(
                "worker.cli.dead_letters.export:export",
                "Write dead letters to a file, whole, as JSON Lines.",
            ),
            "purge": Verb(
                "worker.cli.dead_letters.purge:purge",
                "Delete dead letters for good, written to a file first.",
            ),
        }
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Look at what is dead and why, keep it in files, delete it.",
)
