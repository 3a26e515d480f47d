"""The verb that sends dead letters back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from worker.cli import screen
from worker.cli.running import run_async
from worker.dead_letters import DeadLetter, ReplayChoice
from worker.queue import open_queues
from worker.replay import ReplayFigures
from worker.replay import replay as send_back
from worker.settings import load

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
Reasons = Annotated[list[str] | None, typer.Option("--reason", help="Only these; repeatable.")]
Limit = Annotated[int | None, typer.Option(min=1, help="How many at most.")]


def _now() -> datetime:
    return datetime.now(UTC)


def replay(
    message_ids: Annotated[
        list[str] | None, typer.Argument(help="Only these; all, if absent.")
    ] = None,
    reason: Reasons = None,
    limit: Limit = None,
    dry_run: Annotated[bool, typer.Option(help="Say what would be sent, send nothing.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Send dead letters back to the queue: sent, verified, then deleted, one by one.

    An interruption at any moment loses nothing. Exit codes: 0 done, 1 some failed or not found.

    Example: aup-worker replay --reason unknown_policy --dry-run
    """
    choice = ReplayChoice(ids=message_ids or [], reasons=reason or [], limit=limit, dry_run=dry_run)
    figures, chosen = run_async(_replay(choice))
    if as_json:
        screen.print_json({**figures.figures(), "dry_run": dry_run, "dead_letters": chosen})
    elif dry_run:
        for each in chosen:
            screen.stdout().print(screen.plain(f"{each['id']}  {each['reason']}  {each['detail']}"))
        screen.note(f"{figures.matched} would be replayed; nothing was sent")
    else:
        screen.note(_sentence(figures))
    missing = bool(choice.ids) and figures.matched < len(set(choice.ids))
    if missing:
        screen.note(f"only {figures.matched} of {len(set(choice.ids))} ids were found")
    if figures.failed or figures.undeleted or missing:
        raise typer.Exit(1)


def _sentence(figures: ReplayFigures) -> str:
    parts = [f"replayed {figures.replayed} of {figures.matched}"]
    if figures.failed:
        parts.append(f"{figures.failed} not sent, still dead letters ({figures.last_error})")
    if figures.undeleted:
        parts.append(f"{figures.undeleted} sent, but not deleted here ({figures.last_error})")
    return "; ".join(parts)


async def _replay(choice: ReplayChoice) -> tuple[ReplayFigures, list[dict[str, Any]]]:
    settings = load()
    chosen: list[dict[str, Any]] = []
    with screen.progress("replaying") as bar:
        async with open_queues(settings) as (source, dead_letters):
            state = await dead_letters.state()
            total = choice.limit or len(choice.ids) or state.visible
            task = bar.add_task("replaying", total=total, rate="")

            def show_progress(letter: DeadLetter, figures: ReplayFigures) -> None:
                chosen.append(letter.summary(_now()))
                bar.update(task, completed=figures.matched, rate="")

            figures = await send_back(
                source,
                dead_letters,
                choice,
                progress=show_progress,
                look_seconds=settings.look_seconds,
            )
    return figures, chosen
