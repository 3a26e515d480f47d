"""Table of verbs, and exit codes of errors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from worker import __version__
from worker.cli import completion
from worker.cli.lazy import Verb, lazy_group
from worker.errors import AUPError, SettingsError, UsageError

VERBS: Final = {
    "run": Verb("run:run", "Run the service until SIGTERM or SIGINT."),
    "push": Verb("push:push", "Send acceptances from files, stdin or options."),
    "replay": Verb("replay:replay", "Send dead letters back to the queue, then delete them."),
    "accepted": Verb("evidence:accepted", "Show, verify or export what a user accepted."),
    "verify": Verb("verify:verify", "Verify an exported evidence file without AWS."),
    "erase": Verb("evidence:erase", "Erase private fields of a user; records stay verifiable."),
    "coverage": Verb("coverage:coverage", "Count the users who accepted a policy version, by day."),
    "status": Verb("status:status", "Show queues and workers, once or continuously."),
    "console": Verb(
        "console:console", "Serve a web console for dead letters, evidence and health."
    ),
    "doctor": Verb("doctor:doctor", "Check the configuration; report what to fix."),
    "settings": Verb(
        "settings:settings",
        "Show the value in force, the default and the source of each setting.",
    ),
    "health": Verb("health:health", "Check whether the running service is live, started or ready."),
    "init": Verb("setup:init", "Create missing queues and tables."),
    "demo": Verb("demo:demo", "Run the complete workflow on an embedded AWS."),
    "plan": Verb("plan:plan", "Estimate tasks, capacity and monthly cost for a message rate."),
    "schema": Verb("setup:schema", "Print the JSON Schema of an acceptance."),
    "dead-letters": Verb("app:dead_letters", "List, show, export and purge dead letters."),
    "policy": Verb("policy:app", "Publish, show, compare and retire policy versions."),
}
_DEAD_LETTERS: Final = {
    "list": Verb("dead_letters.show:list_", "List dead letters, soonest to expire first."),
    "show": Verb("dead_letters.show:show", "Show one dead letter in full, with its errors marked."),
    "export": Verb(
        "dead_letters.export:export", "Export complete dead letters to a JSON Lines file."
    ),
    "purge": Verb(
        "dead_letters.export:purge",
        "Export dead letters to a file, then delete them permanently.",
    ),
}

dead_letters = typer.Typer(
    cls=lazy_group(_DEAD_LETTERS),
    no_args_is_help=True,
    rich_markup_mode=None,
    help=VERBS["dead-letters"].summary,
)
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


def _for_shell(name: str, callback: Callable[[completion.Shell | None], None], text: str) -> Any:
    return typer.Option(name, callback=callback, is_eager=True, help=text)


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
        _for_shell(
            completion.INSTALL,
            completion.install_for,
            "Install shell completion (default: the current shell).",
        ),
    ] = None,
    show_completion: Annotated[
        completion.Shell | None,
        _for_shell(
            completion.SHOW,
            completion.show_for,
            "Print the completion script (default: the current shell).",
        ),
    ] = None,
) -> None:
    """Handle the options of the program itself, before those of a verb."""


def main() -> None:
    """Run a verb.

    Exit codes: 0 success, 1 partial failure, 2 invalid usage or settings.
    """
    completion.enable()
    try:
        app(completion.with_shell(sys.argv[1:]), prog_name="aup-worker")
    except AUPError as error:
        # Imported only for errors: the import takes longer than the rest of this module.
        from worker.cli import screen  # noqa: PLC0415

        for problem in error.problems if isinstance(error, SettingsError) else [error]:
            screen.note(f"aup-worker: {problem}")
        sys.exit(2 if isinstance(error, SettingsError | UsageError) else 1)
