"""The verbs for development: init, schema."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.aws.provision import provision
from worker.cli import screen
from worker.cli.running import run_async
from worker.domain.acceptance import Acceptance
from worker.settings import load

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def init(as_json: AsJSON = False) -> None:
    """Make the queues and tables that are missing.

    For development: production wants encryption, alarms and backups of its own.

    Example: AWS_ENDPOINT_URL=http://127.0.0.1:5000 aup-worker init
    """
    made = run_async(provision(load()))
    if as_json:
        screen.print_json(made)
        return
    for name, new in made.items():
        screen.stdout().print(screen.plain(f"{name}: {'made' if new else 'was there'}"))


def schema() -> None:
    """Print the JSON Schema of an acceptance.

    Example: aup-worker schema > acceptance.schema.json
    """
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Acceptance.model_json_schema(),
    }
    screen.print_json(document)
