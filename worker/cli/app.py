"""The table of verbs, and the exit code of each kind of error."""

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
    "push": Verb(
        "worker.cli.push:push", "Send acceptances from files, from stdin or from options."
    ),
    "replay": Verb(
        "worker.cli.replay:replay", "Send dead letters back: each sent, verified, then deleted."
    ),
    "accepted": Verb(
        "worker.cli.evidence:accepted",
        "Show what a user accepted; verify it, or keep it in a file.",
    ),
    "erase": Verb(
        "worker.cli.evidence:erase", "Erase private fields of a user; the rest stays provable."
    ),
    "coverage": Verb(
        "worker.cli.coverage:coverage", "Count the users who accepted a version, by day."
    ),
    "status": Verb(
        "worker.cli.status:status", "Show how the queues and workers stand, once or live."
    ),
    "doctor": Verb("worker.cli.doctor:doctor", "Check the whole set-up and say what to mend."),
    "settings": Verb(
        "worker.cli.settings:settings",
        "Show the value in force, the default and the source of each setting.",
    ),
    "health": Verb(
        "worker.cli.health:health", "Ask the running service whether it is live, or ready."
    ),
    "init": Verb("worker.cli.setup:init", "Make the queues and tables that are missing."),
    "demo": Verb("worker.cli.demo:demo", "Run the whole job on an embedded AWS."),
    "plan": Verb("worker.cli.plan:plan", "Say what a rate of messages takes, from tasks to money."),
    "schema": Verb("worker.cli.setup:schema", "Print the JSON Schema of an acceptance."),
    "dead-letters": Verb(
        "worker.cli.dead_letters.verbs:app",
        "Look at what is dead and why, keep it in files, delete it.",
    ),
    "policy": Verb("worker.cli.policy:app", "Publish, list and retire versions of policies."),
}

app = typer.Typer(
    name="aup-worker",
    cls=lazy_group(VERBS),
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


def _note(error: object) -> None:
    # Loaded for errors only: it takes longer than most of what this module does.
    from worker.cli import screen  # noqa: PLC0415

    screen.note(f"aup-worker: {error}")


def main() -> None:
    """Run a verb; exit 0 done, 1 some of it failed, 2 wrong usage or settings."""
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
