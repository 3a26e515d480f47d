"""Verb that serves the web console."""

from __future__ import annotations

import asyncio
import os
import sys
import webbrowser
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Annotated, Final

import typer

from worker.cli import screen
from worker.cli.names import current_user
from worker.cli.options import AsJSON, Workers, expand_options
from worker.console.context import ConsoleOptions, open_context
from worker.errors import UsageError
from worker.operations.status.scrape import format_address, parse_address
from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.runtime.signals import on_signals
from worker.settings import Settings, load

PORT: Final = 8420
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the console listens, and under which names browsers may reach it."""

    host: Annotated[
        str, typer.Option(help="Address to listen on; the default reaches this machine only.")
    ] = "127.0.0.1"
    port: Annotated[
        int, typer.Option(min=0, max=65_535, help="Port to listen on; 0 for any free port.")
    ] = PORT
    allowed_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Further host name in the browser's address; repeatable."
        ),
    ] = None


@expand_options
def console(
    address: Address,
    allow_replay: Annotated[
        bool,
        typer.Option("--allow-replay", help="Allow replays; without it the console is read-only."),
    ] = False,
    worker: Workers = None,
    operator: Annotated[
        str, typer.Option(help="Your name in logs and edits (default: the login name).")
    ] = "",
    open_browser: Annotated[
        bool, typer.Option("--open/--no-open", help="Open the console in a browser.")
    ] = True,
    as_json: AsJSON = False,
) -> None:
    """Serve a web console for dead letters, evidence and health.

    Prints a URL with a token that is new at every start, and serves until Ctrl-C. Read-only unless
    --allow-replay is passed; it never purges, erases or publishes. Every action is logged to
    stderr with the operator. Requires the extra `console`. With --json, prints the URL as JSON and
    opens no browser.

    Example: aup-worker console --allow-replay --worker 127.0.0.1:8080
    """
    check_installed()
    settings = load()
    workers = list(dict.fromkeys(map(parse_address, worker or ())))
    if not workers and settings.health_port is not None:
        workers = [format_address(settings.health_host, settings.health_port)]
    configure("info", "auto")
    options = ConsoleOptions(operator or current_user(), allow_replay, tuple(workers))
    announce: Callable[[str], None]
    if as_json:
        announce = announce_as_json
    else:
        announce = partial(announce_url, options, address, opens=open_browser)
    run_on_loop(serve_until_signal(settings, options, address, announce))


def check_installed() -> None:
    """Check that the extra `console` is installed.

    Raises:
        UsageError: It is not.
    """
    if find_spec("jinja2") is None:
        raise UsageError("the console requires Jinja2: pip install 'aup-worker[console]'")


async def serve_until_signal(
    settings: Settings,
    options: ConsoleOptions,
    address: Address,
    announce: Callable[[str], None],
) -> None:
    """Serve the console until SIGINT or SIGTERM.

    Args:
        settings: Settings with the names of queues and tables.
        options: Options of the console.
        address: Where to listen.
        announce: Called with the URL once the console answers.
    """
    # Imported only here: Jinja2 is optional.
    from worker.console.security import Access  # noqa: PLC0415
    from worker.console.server import serving  # noqa: PLC0415

    access = Access(address.host, address.allowed_host or ())
    stopping = asyncio.Event()
    with on_signals(lambda _: stopping.set(), lambda _: None):
        async with (
            open_context(settings, options) as context,
            serving(context, access, address.port) as url,
        ):
            announce(url)
            await stopping.wait()


def announce_as_json(url: str) -> None:
    """Print the URL of the console as one line of JSON."""
    screen.print_json_line({"url": url, "process_id": os.getpid()})
    sys.stdout.flush()


def announce_url(options: ConsoleOptions, address: Address, url: str, *, opens: bool) -> None:
    """Print the URL of the console and what it can do, and open a browser.

    Args:
        options: Options of the console.
        address: Where it listens.
        url: The URL with its token.
        opens: Whether to open a browser if there is a graphical one.
    """
    screen.print_line(url)
    sys.stdout.flush()
    can = "replay dead letters" if options.allow_replay else "change nothing (read-only)"
    screen.note(f"the console can {can}; Ctrl-C stops it")
    if address.host not in _LOOPBACK:
        screen.note(
            f"warning: {address.host} is reachable from other machines, without encryption: put a "
            "proxy with TLS in front, or use 127.0.0.1 with `ssh -L`"
        )
    if opens and _has_browser():
        webbrowser.open(url)


def _has_browser() -> bool:
    """Return whether a graphical browser can be opened; a text browser would take the terminal."""
    has_display = any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return sys.stdout.isatty() and (sys.platform == "darwin" or has_display)
