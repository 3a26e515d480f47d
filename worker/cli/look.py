"""The verbs that look: status, schema; and init, which makes what they look at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from worker.acceptance import Acceptance
from worker.cli import screen
from worker.cli.running import run_async
from worker.provision import provision
from worker.queue import QueueState, open_queues
from worker.settings import load

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def status(as_json: AsJSON = False) -> None:
    """Show the depth of the queues.

    Example: aup-worker status
    """
    states = run_async(_states())
    if as_json:
        screen.print_json({name: asdict(state) for name, state in states.items()})
        return
    table = screen.table("", "visible", "in flight", "delayed", "kept for", "url")
    for name, state in states.items():
        table.add_row(
            name.replace("_", " "),
            str(state.visible),
            str(state.in_flight),
            str(state.delayed),
            screen.duration(state.retention_seconds),
            state.url,
        )
    screen.stdout().print(table)


async def _states() -> dict[str, QueueState]:
    async with open_queues(load()) as (source, dead_letters):
        return {"queue": await source.state(), "dead_letters": await dead_letters.state()}


def init(as_json: AsJSON = False) -> None:
    """Make queues and tables where they are missing; for development.

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
