"""The verb that shows how queues and workers stand."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from worker.aws.cloudwatch import CloudWatch
from worker.aws.queue_lookup import open_queues
from worker.cli import screen
from worker.cli.live import draw, line, repeat, watch
from worker.cli.running import run_async
from worker.operations.status.observer import Observer, Status
from worker.operations.status.scrape import format_address, parse_address
from worker.settings import Settings, load

_BETWEEN_SAMPLES_SECONDS: Final = 1.0


def status(
    watching: Annotated[
        bool, typer.Option("--watch", help="Again and again, until q or Ctrl-C.")
    ] = False,
    interval_seconds: Annotated[
        float,
        typer.Option("--interval", metavar="SECONDS", min=0.5, max=3600, help="Between two looks."),
    ] = 2.0,
    worker: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Health endpoint of a worker; repeatable. AUP_HEALTH_PORT's, if absent.",
        ),
    ] = None,
    reasons: Annotated[
        bool, typer.Option(help="Look through the dead letters; it receives up to 1,000 of them.")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="JSON on stdout; with --watch a line a look.")
    ] = False,
) -> None:
    """Show how the queues and workers stand, once or live.

    The age of the oldest message comes from CloudWatch, once a minute at most. Looking through the
    dead letters takes nothing, but hides them for moments and raises their receive counts; it ends
    after 5 seconds. With --watch they are looked through when their number changed, every 15
    seconds at most. Where stdout is no terminal, --watch writes a line a look.

    Example: aup-worker status --watch --worker 127.0.0.1:8080
    """
    settings = load()
    workers = list(dict.fromkeys(map(parse_address, worker or ())))
    if not workers and settings.health_port is not None:
        workers = [format_address(settings.health_host, settings.health_port)]
    if watching:
        run_async(_watch(settings, workers, interval_seconds, reasons=reasons, as_json=as_json))
        return
    seen = run_async(_once(settings, workers, reasons=reasons))
    if as_json:
        screen.print_json(seen.report())
        return
    out = screen.stdout()
    out.print(draw(seen, out.width))
    out.print()
    for name, queue in (("queue", seen.queue), ("dead letters", seen.dead_letters)):
        kept = screen.duration(queue.state.retention_seconds)
        out.print(screen.plain(f"{name}, kept for {kept}: {queue.state.url}"), soft_wrap=True)


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


async def _once(settings: Settings, workers: list[str], *, reasons: bool) -> Status:
    async with _observer(settings, workers, reasons=reasons) as observer:
        if workers:  # rates take two samples
            await observer.observe()
            await asyncio.sleep(_BETWEEN_SAMPLES_SECONDS)
        return await observer.observe(settle=True)


async def _watch(
    settings: Settings,
    workers: list[str],
    interval_seconds: float,
    *,
    reasons: bool,
    as_json: bool,
) -> None:
    out = screen.stdout()
    async with _observer(settings, workers, reasons=reasons) as observer:
        if out.is_terminal and not out.is_dumb_terminal and not as_json:
            await watch(observer.observe, out, interval_seconds)
            return

        async def tell() -> None:
            seen = await observer.observe()
            if as_json:
                screen.print_json_line(seen.report())
            else:
                screen.print_line(line(seen))
            sys.stdout.flush()

        await repeat(tell, interval_seconds, asyncio.Event())
