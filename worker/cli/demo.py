"""Verb that demonstrates the complete workflow."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from worker.cli import screen
from worker.cli.console import (
    Address,
    announce_as_json,
    announce_url,
    check_installed,
    serve_until_signal,
)
from worker.cli.names import current_user
from worker.cli.options import AsJSON
from worker.cli.tables import Column, Kind
from worker.console.context import ConsoleOptions
from worker.demo.accounting import OUTCOMES, REDELIVERED
from worker.demo.messages import POLICY, UNPUBLISHED, USER
from worker.demo.process import service_process
from worker.demo.run import DemoReport, publish, run_demo
from worker.demo.walkthrough import Walkthrough, prepare
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.status.scrape import format_address
from worker.runtime.logs import configure
from worker.runtime.quantities import counted
from worker.runtime.signals import on_signals
from worker.settings import load

_EXAMPLE: Final = Column("example", kind=Kind.TEXT)
# With the counts, a line of 80 columns.
_BAR_COLUMNS: Final = 8


class _Reporter:
    """Report of the demonstration: one line per step, above a live progress bar.

    Args:
        as_json: Whether to print only one line of JSON at the end.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._console = console = Console(quiet=True) if as_json else screen.stdout()
        self.bar = Progress(
            TextColumn(" "),
            BarColumn(_BAR_COLUMNS),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self.bar.add_task("", total=None, visible=False)

    def step(self, text: str) -> None:
        self.bar.update(self._task, visible=False)
        self._console.print(f"• {text}", markup=False)

    def progress(self, sent: int, total: int, counts: Counter[str]) -> None:
        self.bar.update(
            self._task,
            visible=True,
            total=total,
            completed=sum(counts[outcome] for outcome in OUTCOMES),
            description=progress_text(sent, counts),
        )

    def dead_letters(self, dead_letters: Sequence[DeadLetter]) -> None:
        self.step(f"{len(dead_letters)} messages were dead-lettered, each with its reason:")
        details: dict[str, list[str]] = defaultdict(list)
        for each in dead_letters:
            details[each.reason].append(each.detail)
        rows = (("", name, str(len(same)), same[0]) for name, same in sorted(details.items()))
        columns = ("", "reason", Column("count", right=True), _EXAMPLE)
        self._console.print(screen.table(columns, rows))

    def finished(self, report: DemoReport, walkthrough: Walkthrough | None) -> None:
        self.bar.stop()
        if self.as_json:
            more = {} if walkthrough is None else walkthrough.report()
            screen.print_json_line({**asdict(report), "sound": report.sound, **more})
        else:
            _print_accounting(self._console, report)
            if walkthrough is not None:
                _print_walkthrough(walkthrough)
        sys.stdout.flush()


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the environment running until Ctrl-C.")
    ] = False,
    with_console: Annotated[
        bool,
        typer.Option(
            "--console", help="Keep it running with a worker and the web console open on it."
        ),
    ] = False,
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the console in a browser.")
    ] = True,
    as_json: AsJSON = False,
) -> None:
    """Run the complete workflow on an embedded AWS.

    Creates queues and tables, sends messages of every kind, records or dead-letters each, replays
    and counts. Uses nothing outside this machine. With --keep, prints how to try the other verbs
    on the result in another terminal. With --console, serves the web console on the result instead,
    with dead letters to replay. Exit codes: 0 no message was lost and the accounting balances, 1
    otherwise.

    Example: aup-worker demo --keep
    """
    if with_console:
        check_installed()
    configure("warning", "auto")
    reporter = _Reporter(as_json=as_json)
    with reporter.bar:
        if with_console:
            report = asyncio.run(_run_console(reporter, opens=open_browser and not as_json))
        else:
            report = asyncio.run(_run(reporter, keep=keep))
    if not report.sound:
        raise typer.Exit(1)


async def _run(reporter: _Reporter, *, keep: bool) -> DemoReport:
    if not keep:
        report = await run_demo(reporter)
        reporter.finished(report, None)
        return report
    with tempfile.TemporaryDirectory(prefix="aup-worker-demo-") as directory:

        async def wait(report: DemoReport, settings_of_aws: dict[str, str]) -> None:
            reporter.finished(report, prepare(Path(directory), settings_of_aws))
            interrupted = asyncio.Event()
            with on_signals(lambda _: interrupted.set(), lambda _: None):
                await interrupted.wait()

        return await run_demo(reporter, keep=wait)


async def _run_console(reporter: _Reporter, *, opens: bool) -> DemoReport:
    """Run the demonstration, then the console on its environment until a signal."""
    with tempfile.TemporaryDirectory(prefix="aup-worker-demo-") as directory:

        async def serve(report: DemoReport, _: dict[str, str]) -> None:
            settings = load()
            await publish(settings, UNPUBLISHED)
            reporter.step(
                f"published the missing {POLICY} {UNPUBLISHED}: its dead letters can be replayed"
            )
            reporter.finished(report, None)
            configure("info", "auto")
            os.environ["XDG_STATE_HOME"] = directory  # journals must not outlive the queues
            address = Address(port=0)
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            worker = format_address("127.0.0.1", port)
            options = ConsoleOptions(current_user(), allow_replay=True, workers=(worker,))
            announce = (
                announce_as_json
                if reporter.as_json
                else partial(announce_url, options, address, opens=opens)
            )
            async with service_process({"AUP_HEALTH_PORT": str(port)}):
                await serve_until_signal(settings, options, address, announce)

        return await run_demo(reporter, keep=serve)


def progress_text(sent: int, counts: Mapping[str, int]) -> str:
    """Return the progress of the service as a short text.

    Args:
        sent: Messages sent so far.
        counts: Messages by outcome, and redelivered ones.
    """
    names = [*OUTCOMES, *([REDELIVERED] if counts[REDELIVERED] else [])]
    shown = ", ".join(f"{counts[name]} {name.replace('_', '-')}" for name in names)
    return shown if counts[REDELIVERED] else f"{sent} sent: {shown}"


def _print_accounting(console: Console, report: DemoReport) -> None:
    dead_lettered = sum(report.dead_lettered.values())
    console.print("• message accounting:")
    counts = {
        "sent": report.sent,
        "recorded": report.recorded,
        "duplicates": report.duplicates,
        "dead-lettered": dead_lettered,
        "of these replayed and recorded": report.replayed,
        "lost": report.lost,
    }
    rows = (("", name, str(count)) for name, count in counts.items())
    console.print(screen.table(("", "", ""), rows, right={2}))
    if report.redelivered:
        redelivered = counted(report.redelivered, "message")
        console.print(f"• {redelivered} redelivered by the embedded server, not counted above")
    verdict = "the accounting balances" if report.sound else "THE ACCOUNTING DOES NOT BALANCE"
    console.print(
        f"• {verdict}: {report.sent} sent = {report.recorded} recorded + {report.duplicates} "
        f"duplicates + {dead_lettered - report.replayed} dead letters + {report.lost} lost, "
        f"in {report.seconds:g} s"
    )
    if report.record:
        _print_record(console, report.record)


def _print_record(console: Console, record: Mapping[str, Any]) -> None:
    """Print one finished record and its verification."""
    attributes, verification = record["attributes"], record["verification"]
    console.print(f"• one finished record, as `aup-worker accepted {USER} --verify` finds it:")
    names = {
        "user": "user_id",
        "policy": "policy_id",
        "version": "version",
        "accepted": "accepted_at",
        "received": "received_at",
        "recorded": "recorded_at",
        "text hash": "policy_sha256",
        "record hash": "record_sha256",
    }
    facts = [(f"  {shown}", attributes.get(name, "-")) for shown, name in names.items()]
    text = f"its text {verification['text']}" if verification["text"] != "matches" else ""
    result = "every hash computed again, its text is the published one"
    facts.append(("  verified", f"{verification['verdict']}: {text or result}"))
    console.print(screen.facts(facts))


def _print_walkthrough(walkthrough: Walkthrough) -> None:
    for line in (
        "• the environment keeps running until Ctrl-C. In another terminal, run:",
        "",
        *walkthrough.export_lines(),
        "",
        "  then try (Ctrl-C ends `aup-worker run`):",
        "",
        *(f"  {command}" for command in walkthrough.commands),
    ):
        screen.print_line(line)
