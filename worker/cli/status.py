"""Verb that shows the state of queues and workers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Annotated, Final

import typer

from worker.aws.cloudwatch import CloudWatch
from worker.aws.sqs import open_queues
from worker.cli import screen
from worker.cli.live import draw, line, repeat, watch
from worker.cli.options import Workers
from worker.cli.running import run_async
from worker.operations.status.observer import Observer, Status
from worker.operations.status.scrape import format_address, parse_address
from worker.runtime.quantities import duration
from worker.settings import Settings, load

_BETWEEN_SAMPLES_SECONDS: Final = 1.0


def status(
    continuous: Annotated[
        bool, typer.Option("--watch", help="Refresh continuously until q or Ctrl-C.")
    ] = False,
    interval_seconds: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Refresh interval."),
    ] = 2.0,
    worker: Workers = None,
    reasons: Annotated[
        bool, typer.Option(help="Count dead letters by reason, receiving up to 1,000 of them.")
    ] = True,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Write JSON to stdout; with --watch one line per refresh."),
    ] = False,
) -> None:
    """Show queues and workers, once or continuously.

    CloudWatch reports the age of the oldest message; it is queried at most once a minute. Counting
    by reason deletes nothing, but hides dead letters for a moment and increments their receive
    counts; it ends after 5 seconds. With --watch, the reasons are counted when the number of dead
    letters changes, at most every 15 seconds. If stdout is not a terminal, --watch writes one line
    per refresh.

    Example: aup-worker status --watch --worker 127.0.0.1:8080
    """
    settings = load()
    workers = list(dict.fromkeys(map(parse_address, worker or ())))
    if not workers and settings.health_port is not None:
        workers = [format_address(settings.health_host, settings.health_port)]
    opening = _observer(settings, workers, reasons=reasons)
    if continuous:
        run_async(_watch(opening, interval_seconds, as_json=as_json))
        return
    _show(run_async(_once(opening, with_rates=bool(workers))), as_json=as_json)


def _show(status: Status, *, as_json: bool) -> None:
    if as_json:
        screen.print_json(status.report())
        return
    out = screen.stdout()
    out.print(draw(status, out.width))
    out.print()
    for name, queue in (("queue", status.queue), ("dead letters", status.dead_letters)):
        text = f"{name}, retention {duration(queue.state.retention_seconds)}:"
        fits = len(f"{text} {queue.state.url}") <= out.width
        out.print(screen.plain(text), end=" " if fits else "\n  ")
        out.print(screen.plain(queue.state.url), soft_wrap=True)


@asynccontextmanager
async def _observer(
    settings: Settings, workers: list[str], *, reasons: bool
) -> AsyncIterator[Observer]:
    async with open_queues(settings) as (queue, dead_letters):
        observer = Observer(
            queue,
            dead_letters,
            CloudWatch(settings),
            workers=workers,
            visibility_timeout_seconds=settings.look_seconds if reasons else None,
        )
        try:
            yield observer
        finally:
            await observer.aclose()


async def _once(opening: AbstractAsyncContextManager[Observer], *, with_rates: bool) -> Status:
    async with opening as observer:
        if with_rates:  # They require two samples.
            await observer.observe()
            await asyncio.sleep(_BETWEEN_SAMPLES_SECONDS)
        return await observer.observe(settle=True)


async def _watch(
    opening: AbstractAsyncContextManager[Observer], interval_seconds: float, *, as_json: bool
) -> None:
    out = screen.stdout()
    async with opening as observer:
        if out.is_terminal and not out.is_dumb_terminal and not as_json:
            await watch(observer.observe, out, interval_seconds)
            return

        async def report() -> None:
            result = await observer.observe()
            if as_json:
                screen.print_json_line(result.report())
            else:
                screen.print_line(line(result))
            sys.stdout.flush()

        await repeat(report, interval_seconds, asyncio.Event())
