"""Comparison of all variants on a given server, for `python -m tests.bench --endpoint-url`."""

from __future__ import annotations

import os
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer

from tests.bench.variants.comparison import VARIANTS, Comparison, ComparisonPlan, Spread, compare
from worker.cli import screen
from worker.cli.running import run_async
from worker.errors import AUPError, SettingsError, UsageError
from worker.settings import Settings, load

_LOCAL_HOSTS = {"127.0.0.1", "localhost", "::1"}


def bench(
    endpoint_url: Annotated[str, typer.Option(help="Endpoint URL of SQS and DynamoDB.")],
    messages: Annotated[
        int,
        typer.Option(
            metavar="COUNT", min=100, max=1_000_000, help="Messages per run; fewer for A and B."
        ),
    ] = 2_000,
    rounds: Annotated[
        int, typer.Option(metavar="COUNT", min=1, max=100, help="Interleaved rounds.")
    ] = 3,
    variants: Annotated[
        str, typer.Option("--ways", help="Letters of the variants to run.")
    ] = "ABCDE",
    yes: Annotated[
        bool, typer.Option("--yes", help="Run on a remote server, which is billed.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to stdout.")] = False,
) -> None:
    """Compare the worker with simpler implementations.

    A: a new session and clients for each message. B: a resource opened in every call. C: shared
    clients, a call for each step. D: the worker. E: the worker in two processes. It creates
    temporary queues and tables and removes them; the configured ones are not used.

    Example: make bench ARGS="--endpoint-url http://127.0.0.1:5000"
    """
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SQS", "AWS_ENDPOINT_URL_DYNAMODB"):
        os.environ[name] = endpoint_url
    settings = load()
    plan = ComparisonPlan(_parse_variants(variants), messages, rounds)
    _check_permission(settings, plan, yes=yes)
    with screen.progress("measuring") as bar:
        task = bar.add_task("", total=plan.total_messages, rate="")

        def progress(current: str, done: int) -> None:
            bar.update(task, completed=done, rate=current)

        comparison = run_async(compare(settings, plan, progress))
    if as_json:
        screen.print_json(comparison.report())
    else:
        _print(comparison)


def _parse_variants(variants: str) -> tuple[str, ...]:
    letters = tuple(dict.fromkeys(variants.replace(",", "").upper()))
    unknown = [letter for letter in letters if letter not in VARIANTS]
    if unknown or not letters:
        raise UsageError(f"--ways {variants}: expected letters of {''.join(VARIANTS)}")
    return letters


def _check_permission(settings: Settings, plan: ComparisonPlan, *, yes: bool) -> None:
    urls = {"SQS": settings.aws.sqs_endpoint_url, "DynamoDB": settings.aws.dynamodb_endpoint_url}
    remote = [
        name for name, url in urls.items() if urlsplit(url or "").hostname not in _LOCAL_HOSTS
    ]
    if remote and not yes:
        raise UsageError(
            f"{' and '.join(remote)} {'are' if len(remote) > 1 else 'is'} remote: "
            f"{plan.total_messages:,} messages will be billed. Pass --yes to continue."
        )


def _print(comparison: Comparison) -> None:
    out = screen.stdout()
    columns = (
        "variant", "CPU µs/message", "messages/s", "calls/message", "connections", "TLS", "RSS MB",
        "p50 ms", "p99 ms", "start s",
    )  # fmt: skip
    rows = []
    for variant in comparison.runs:
        figures = comparison.figures(variant)
        rows.append(
            (
                f"{variant}  {VARIANTS[variant]}",
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
        )
    out.print(screen.table(columns, rows))
    if "D" in comparison.runs:
        for other, spread in comparison.ratios("D").items():
            out.print(f"{other} takes {_spread(spread)} times the CPU of D per message")
        calls = comparison.calls("D")
        calls_text = ", ".join(f"{name} {rate:.3f}" for name, rate in calls.items())
        out.print(f"calls of D per message: {calls_text}")


def _spread(spread: Spread) -> str:
    digits = 0 if spread.median >= 100 else 2
    middle = f"{spread.median:,.{digits}f}"
    if spread.least == spread.most:
        return middle
    return f"{middle} ({spread.least:,.{digits}f}-{spread.most:,.{digits}f})"


def main() -> None:
    """Run the comparison; exit with 0, 1 if it failed, or 2 for invalid usage or settings."""
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
