"""Table of verbs, and exit codes of errors."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from worker import __version__
from worker.cli import completion
from worker.cli.lazy import Verb, lazy_group
from worker.errors import AUPError, SettingsError, UsageError

VERBS: Final = {
    "run": Verb("worker.cli.run:run", "Run the service until SIGTERM or SIGINT."),
    "push": Verb("worker.cli.push:push", "Send acceptances from files, stdin or options."),
    "replay": Verb(
        "worker.cli.replay:replay", "Send dead letters back to the queue, then delete them."
    ),
    "accepted": Verb(
        "worker.cli.evidence:accepted", "Show, verify or export what a user accepted."
    ),
    "erase": Verb(
        "worker.cli.evidence:erase", "Erase private fields of a user; records stay verifiable."
    ),
    "coverage": Verb(
        "worker.cli.coverage:coverage", "Count the users who accepted a policy version, by day."
    ),
    "status": Verb("worker.cli.status:status", "Show queues and workers, once or continuously."),
    "doctor": Verb("worker.cli.doctor:doctor", "Check the configuration; report what to fix."),
    "settings": Verb(
        "worker.cli.settings:settings",
        "Show the value in force, the default and the source of each setting.",
    ),
    "health": Verb(
        "worker.cli.health:health", "Check whether the running service is live or ready."
    ),
    "init": Verb("worker.cli.setup:init", "Create missing queues and tables."),
    "demo": Verb("worker.cli.demo:demo", "Run the complete workflow on an embedded AWS."),
    "plan": Verb(
        "worker.cli.plan:plan", "Estimate tasks, capacity and monthly cost for a message rate."
    ),
    "schema": Verb("worker.cli.setup:schema", "Print the JSON Schema of an acceptance."),
    "dead-letters": Verb(
        "worker.cli.dead_letters.verbs:app", "List, show, export and purge dead letters."
    ),
    "policy": Verb("worker.cli.policy:app", "Publish, list and retire policy versions."),
}

app = typer.Typer(
    name="aup-worker",
    cls=lazy_group(VERBS),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Record Acceptable Use Policy acceptances from SQS in DynamoDB, exactly once.",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aup-worker {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
    install_completion: Annotated[
        completion.Shell | None,
        typer.Option(
            completion.INSTALL,
            callback=completion.install_for,
            is_eager=True,
            help="Install shell completion (default: the current shell).",
        ),
    ] = None,
    show_completion: Annotated[
        completion.Shell | None,
        typer.Option(
            completion.SHOW,
            callback=completion.show_for,
            is_eager=True,
            help="Print the completion script (default: the current shell).",
        ),
    ] = None,
) -> None:
    """Handle the options of the program itself, before those of a verb."""


def _note(error: object) -> None:
    # Imported only for errors: the import takes longer than the rest of this module.
    from worker.cli import screen  # noqa: PLC0415

    screen.note(f"aup-worker: {error}")


def main() -> None:
    """Run a verb.

    Exit codes: 0 success, 1 partial failure, 2 invalid usage or settings.
    """
    completion.enable()
    try:
        app(completion.with_shell(sys.argv[1:]), prog_name="aup-worker")
    except SettingsError as error:
        for problem in error.problems:
            _note(problem)
        sys.exit(2)
    except UsageError as error:
        _note(error)
        sys.exit(2)
    except AUPError as error:
        _note(error)
        sys.exit(1)
