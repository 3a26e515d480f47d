"""The verbs that look at what is dead: list, show."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from worker.cli import screen
from worker.cli.running import run_async
from worker.dead_letters import DeadLetter, ReplayChoice, walk
from worker.errors import UsageError
from worker.queue import open_queues
from worker.settings import load

app = typer.Typer(no_args_is_help=True, help="Look at what is dead and why; nothing is taken.")

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only these; repeatable.")]
Limit = Annotated[int | None, typer.Option(min=1, help="How many at most.")]


def _now() -> datetime:
    return datetime.now(UTC)


async def _letters(reasons: list[str], limit: int | None) -> list[DeadLetter]:
    choice = ReplayChoice(reasons=reasons)
    found: list[DeadLetter] = []
    async with _walk() as letters:
        async for letter in letters:
            if choice.matches(letter):
                found.append(letter)
            if limit is not None and len(found) >= limit:
                break
    return found


@asynccontextmanager
async def _walk() -> AsyncIterator[AsyncIterator[DeadLetter]]:
    settings = load()
    async with (
        open_queues(settings) as (_, queue),
        aclosing(walk(queue, now=_now, look_seconds=settings.look_seconds)) as letters,
    ):
        yield letters


@app.command("list")
def list_(reason: Reasons = None, limit: Limit = None, as_json: AsJSON = False) -> None:
    """List dead letters with reason, age, expiry and receive count; nothing is taken.

    Example: aup-worker dead-letters list --reason unknown_policy
    """
    letters = run_async(_letters(reason or [], limit))
    now = _now()
    summaries = [letter.summary(now) for letter in letters]
    counts = Counter(letter.reason for letter in letters)
    if as_json:
        screen.print_json({"counts": dict(counts.most_common()), "dead_letters": summaries})
        return
    out = screen.stdout()
    if not letters:
        out.print("no dead letters")
        return
    table = screen.table("id", "reason", "detail", "age", "expires in", "receives")
    for each in summaries:
        table.add_row(
            screen.plain(each["id"]),
            screen.plain(each["reason"]),
            screen.plain(each["detail"]),
            screen.duration(each["age_seconds"]),
            screen.duration(each["expires_in_seconds"]),
            str(each["receive_count"]),
        )
    out.print(table)
    totals = ", ".join(f"{count} {reason}" for reason, count in counts.most_common())
    out.print(screen.plain(f"{len(letters)} in all: {totals}"))


@app.command()
def show(message_id: str, as_json: AsJSON = False) -> None:
    """Show one dead letter whole, by its own id or its original's; nothing is taken.

    Example: aup-worker dead-letters show 5fea7756-0ea4-451a-a703-a558b933e274
    """
    letter = run_async(_find(message_id))
    report: dict[str, Any] = {
        **letter.summary(_now()),
        "attributes": {
            name: value.get("StringValue", value.get("BinaryValue"))
            for name, value in letter.delivery.attributes.items()
        },
        "body": letter.delivery.body,
    }
    if as_json:
        screen.print_json(report)
        return
    out = screen.stdout()
    table = screen.table("", "")
    table.show_header = False
    for name, value in report.items():
        if name not in {"body", "attributes"}:
            table.add_row(name, screen.plain(value))
    for name, value in report["attributes"].items():
        table.add_row(screen.plain(f"attribute {name}"), screen.plain(value))
    out.print(table)
    out.print()
    out.print(screen.plain(letter.delivery.body), soft_wrap=True)


async def _find(message_id: str) -> DeadLetter:
    choice = ReplayChoice(ids=[message_id])
    async with _walk() as letters:
        async for letter in letters:
            if choice.matches(letter):
                return letter
    raise UsageError(f"no dead letter {message_id}: see `aup-worker dead-letters list`")
