"""The verbs together, and what each kind of error exits with."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from worker import __version__
from worker.cli import completion, evidence, look, policy, screen
from worker.cli.bench import bench
from worker.cli.coverage import coverage
from worker.cli.dead_letters.export import export
from worker.cli.dead_letters.listing import list_
from worker.cli.dead_letters.purge import purge
from worker.cli.dead_letters.show import show
from worker.cli.demo import demo
from worker.cli.doctor import doctor
from worker.cli.health import health
from worker.cli.plan import plan
from worker.cli.push import push
from worker.cli.replay import replay
from worker.cli.run import run
from worker.cli.status import status
from worker.errors import AUPError, SettingsError, UsageError
from worker.logs import configure

app = typer.Typer(
    name="aup-worker",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Keep acceptances of an Acceptable Use Policy: from SQS into DynamoDB, once each.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aup-worker {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
    install_completion: Annotated[
        completion.Shell | None,
        typer.Option(
            completion.INSTALL,
            callback=completion.install_for,
            is_eager=True,
            help="Install completion for a shell; the running one, if absent.",
        ),
    ] = None,
    show_completion: Annotated[
        completion.Shell | None,
        typer.Option(
            completion.SHOW,
            callback=completion.show_for,
            is_eager=True,
            help="Print that completion instead.",
        ),
    ] = None,
) -> None:
    """Settings come from the environment: AUP_… and AWS's own names; see the README."""


app.command()(run)
app.command()(push)
letters = typer.Typer(
    no_args_is_help=True, help="Look at what is dead and why, keep it in files, delete it."
)
letters.command("list")(list_)
letters.command()(show)
letters.command()(export)
letters.command()(purge)
app.add_typer(letters, name="dead-letters")
app.command()(replay)
app.add_typer(policy.app, name="policy")
app.command()(evidence.accepted)
app.command()(evidence.erase)
app.command()(coverage)
app.command()(status)
app.command()(doctor)
app.command()(health)
app.command()(look.init)
app.command()(demo)
app.command()(bench)
app.command()(plan)
app.command()(look.schema)


def main() -> None:
    """Run a verb; exit 0 done, 1 some of it failed, 2 wrong usage or settings."""
    # Warnings of any verb go to stderr; `run` applies the settings.
    configure("warning", "auto")
    completion.enable()
    try:
        app(completion.with_shell(sys.argv[1:]), prog_name="aup-worker")
    except SettingsError as error:
        for problem in error.problems:
            screen.note(f"aup-worker: {problem}")
        sys.exit(2)
    except UsageError as error:
        screen.note(f"aup-worker: {error}")
        sys.exit(2)
    except AUPError as error:
        screen.note(f"aup-worker: {error}")
        sys.exit(1)
