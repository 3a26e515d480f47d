"""The verb that shows the whole job to a person."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from worker.cli import screen
from worker.demo.run import DemoReport, run_demo
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.runtime.logs import configure


class _Story:
    """Tell the run on a terminal: a line a step, with one live bar under it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("  "),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._bar.add_task("", total=None, visible=False)
        self.live = Live(self._bar, console=console, transient=True)

    def say(self, text: str) -> None:
        self._bar.update(self._task, visible=False)
        self._console.print(f"• {text}", markup=False)

    def progress(self, sent: int, total: int, figures: dict[str, Any]) -> None:
        counts = {name: figures.get(name, 0) for name in _FATES}
        self._bar.update(
            self._task,
            visible=True,
            total=total,
            completed=sum(counts.values()),
            description=", ".join(
                f"{count} {name.replace('_', '-')}" for name, count in counts.items()
            )
            + f" of {sent} sent",
        )

    def show_dead(self, letters: Sequence[DeadLetter]) -> None:
        self.say(f"{len(letters)} messages are dead, each with its reason:")
        table = screen.table("  ", "reason", "count", "for example")
        reasons = sorted({letter.reason for letter in letters})
        for reason in reasons:
            same = [letter for letter in letters if letter.reason == reason]
            table.add_row("", screen.plain(reason), str(len(same)), screen.plain(same[0].detail))
        self._console.print(table)


_FATES = ("recorded", "duplicates", "dead_lettered")


class _Silence:
    """Tell nothing: the figures at the end are what is wanted."""

    def say(self, text: str) -> None:
        """Leave out a step."""

    def progress(self, sent: int, total: int, figures: dict[str, Any]) -> None:
        """Leave out how far the service is."""

    def show_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Leave out what is dead."""


def demo(
    as_json: Annotated[bool, typer.Option("--json", help="Only the figures, as JSON.")] = False,
) -> None:
    """Run the whole job on an embedded AWS.

    Nothing outside this machine is touched. Exit codes: 0 nothing was lost and the books balance,
    1 otherwise.

    Example: aup-worker demo --json
    """
    configure("warning", "auto")
    if as_json:
        report = asyncio.run(run_demo(_Silence()))
        screen.print_json_line({**asdict(report), "sound": report.sound})
    else:
        console = screen.stdout()
        story = _Story(console)
        with story.live:
            report = asyncio.run(run_demo(story))
        _close_the_books(console, report)
    if not report.sound:
        raise typer.Exit(1)


def _close_the_books(console: Console, report: DemoReport) -> None:
    dead = sum(report.dead_lettered.values())
    console.print("• the books:")
    table = screen.table("  ", "", "")
    table.show_header = False
    for name, count in (
        ("sent", report.sent),
        ("recorded", report.recorded),
        ("duplicates", report.duplicates),
        ("dead-lettered", dead),
        ("of them replayed, and recorded then", report.replayed),
        ("lost", report.lost),
    ):
        table.add_row("", name, str(count))
    console.print(table)
    verdict = "they balance" if report.sound else "THEY DO NOT BALANCE"
    console.print(
        f"• {verdict}: {report.sent} sent = {report.recorded} recorded + {report.duplicates} "
        f"duplicates + {dead - report.replayed} still dead + {report.lost} lost, "
        f"in {report.seconds:g} s"
    )
