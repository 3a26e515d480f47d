"""The comparison of all variants on a given server, for `python -m tests.bench --endpoint-url`."""

from __future__ import annotations

import os
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from tests.bench.variants.comparison import WAYS, Comparison, Plan, Spread, compare
from worker.cli import screen
from worker.cli.running import run_async
from worker.errors import AUPError, SettingsError, UsageError
from worker.settings import Settings, load

_OWN_MACHINE = {"127.0.0.1", "localhost", "::1"}


def bench(
    endpoint_url: Annotated[str, typer.Option(help="Endpoint URL of SQS and DynamoDB.")],
    messages: Annotated[
        int,
        typer.Option(
            metavar="COUNT", min=100, max=1_000_000, help="In each trial; A and B get a share."
        ),
    ] = 2_000,
    rounds: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=100, help="Of interleaved trials.")
    ] = 3,
    ways: Annotated[str, typer.Option(help="Which ones, by letter.")] = "ABCDE",
    yes: Annotated[
        bool, typer.Option("--yes", help="Also where it is no server of this machine: it costs.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout.")] = False,
) -> None:
    """Measure the worker against plainer ways to do the same work.

    A: a new session and clients for each message. B: a resource opened in every call. C: shared
    clients, a call for each step. D: the worker. E: the worker in two processes. It makes queues
    and tables of its own, and removes them; the ones that the settings name are not touched.

    Example: make bench ARGS="--endpoint-url http://127.0.0.1:5000"
    """
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB"):
        os.environ[name] = endpoint_url
    settings = load()
    plan = Plan(_known(ways), messages, rounds)
    _permit(settings, plan, yes=yes)
    with screen.progress("measuring") as bar:
        task = bar.add_task("", total=plan.total_messages, rate="")

        def progress(doing: str, done: int) -> None:
            bar.update(task, completed=done, rate=doing)

        comparison = run_async(compare(settings, plan, progress))
    if as_json:
        screen.print_json(comparison.report())
    else:
        _show(comparison)


def _known(ways: str) -> tuple[str, ...]:
    letters = tuple(dict.fromkeys(ways.replace(",", "").upper()))
    unknown = [letter for letter in letters if letter not in WAYS]
    if unknown or not letters:
        raise UsageError(f"--ways {ways}: must be letters of {''.join(WAYS)}")
    return letters


def _permit(settings: Settings, plan: Plan, *, yes: bool) -> None:
    urls = {"SQS": settings.aws.sqs_endpoint_url, "DynamoDB": settings.aws.dynamodb_endpoint_url}
    afar = [name for name, url in urls.items() if urlsplit(url or "").hostname not in _OWN_MACHINE]
    if afar and not yes:
        raise UsageError(
            f"{' and '.join(afar)} {'are' if len(afar) > 1 else 'is'} remote: "
            f"{plan.total_messages:,} messages will be billed. Pass --yes to continue."
        )


def _show(comparison: Comparison) -> None:
    out = screen.stdout()
    table = screen.table(
        "way", "CPU µs/message", "messages/s", "calls/message", "connections", "TLS", "RSS MB",
        "p50 ms", "p99 ms", "start s",
    )  # fmt: skip
    for way in comparison.trials:
        figures = comparison.figures(way)
        table.add_row(
            f"{way}  {WAYS[way]}",
            _spread(figures["cpu_us_per_message"]),
            _spread(figures["messages_per_second"]),
            f"{figures['calls_per_message'].median:.3f}",
            *(
                f"{figures[name].median:.0f}"
                for name in ("connections", "tls_handshakes", "rss_mb")
            ),
            *(f"{figures[name].median:.1f}" for name in ("p50_ms", "p99_ms")),
            f"{figures['start_seconds'].median:.2f}",
        )
    out.print(table)
    if "D" in comparison.trials:
        for other, spread in comparison.ratios("D").items():
            out.print(f"{other} takes {_spread(spread)} times the CPU of D for each message")
        calls = comparison.calls("D")
        told = ", ".join(f"{name} {rate:.3f}" for name, rate in calls.items())
        out.print(f"calls of D for each message: {told}")


def _spread(spread: Spread) -> str:
    digits = 0 if spread.median >= 100 else 2
    middle = f"{spread.median:,.{digits}f}"
    if spread.least == spread.most:
        return middle
    return f"{middle} ({spread.least:,.{digits}f}-{spread.most:,.{digits}f})"


def main() -> None:
    """Run the comparison; exit 0 done, 1 failed, 2 wrong usage or settings."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(bench)
    try:
        app(prog_name="bench")
    except SettingsError as error:
        for problem in error.problems:
            screen.note(f"bench: {problem}")
        sys.exit(2)
    except AUPError as error:
        screen.note(f"bench: {error}")
        sys.exit(2 if isinstance(error, UsageError) else 1)
