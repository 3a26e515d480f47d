"""The verbs that look: accepted, status, schema; and init, which makes what they look at."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from worker.acceptance import Acceptance
from worker.cli import screen
from worker.cli.running import run_async
from worker.errors import PolicyNotFoundError
from worker.provision import provision
from worker.queue import QueueState, open_queues
from worker.repository import AUPRepository
from worker.settings import load

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]


def accepted(
    user: Annotated[str, typer.Argument(help="The user's id.")],
    policy: Annotated[str | None, typer.Option(help="Only this policy.")] = None,
    as_json: AsJSON = False,
) -> None:
    """Show the evidence of what a user accepted.

    With --policy, also whether the version in force now is among it.

    Example: aup-worker accepted u-42 --policy acceptable-use
    """
    items, current = run_async(_accepted(user, policy))
    if as_json:
        report: dict[str, Any] = {"user_id": user, "acceptances": items}
        if policy is not None:
            report["accepted_version_in_force"] = current
        screen.print_json(report)
        return
    out = screen.stdout()
    if items:
        table = screen.table("policy", "version", "accepted", "recorded", "how", "text sha256")
        for item in items:
            how = " ".join(item[name] for name in ("method", "channel", "locale") if name in item)
            table.add_row(
                screen.plain(item["policy_id"]),
                screen.plain(item["version"]),
                screen.plain(item["accepted_at"]),
                item["recorded_at"],
                screen.plain(how),
                screen.plain(item.get("content_sha256", "")),
            )
        out.print(table)
    else:
        of_policy = f" of {policy}" if policy else ""
        out.print(screen.plain(f"no acceptance{of_policy} by {user} is recorded"))
    if policy is not None:
        answers = {True: "accepted", False: "not accepted", None: "no version is in force"}
        out.print(screen.plain(f"version of {policy} in force now: {answers[current]}"))


async def _accepted(user: str, policy: str | None) -> tuple[list[dict[str, Any]], bool | None]:
    async with AUPRepository(load().aws) as repository:
        items = [item async for item in repository.acceptances(user, policy)]
        if policy is None:
            return items, None
        try:
            return items, await repository.has_accepted(user, policy)
        except PolicyNotFoundError:
            return items, None


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
