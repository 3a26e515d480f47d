"""Verb that runs the service."""

from __future__ import annotations

from typing import Annotated

import typer

from worker.errors import UsageError
from worker.processes.count import process_count
from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.runtime.streams import never_block
from worker.settings import check_processes, load


def run(
    processes: Annotated[
        str | None,
        typer.Option(
            metavar="N|auto",
            help="Number of processes; auto: one per CPU (default: AUP_PROCESSES).",
        ),
    ] = None,
) -> None:
    """Run the service until SIGTERM or SIGINT.

    A second signal stops it immediately. On a terminal, shows one live line and a short line for
    each event; elsewhere, logs JSON lines. Exit codes: 0 clean drain, 1 drain incomplete or fatal
    error, 2 invalid settings.

    Example: AUP_QUEUE=acceptances AWS_REGION=eu-west-1 aup-worker run
    """
    settings = load(**({} if processes is None else {"processes": _checked(processes)}))
    never_block()
    configure(settings.log_level, settings.log_format)
    count = process_count(settings.processes)
    # Imported only as needed: the parent of several processes does without the AWS clients.
    if count == 1:
        from worker.service import serve  # noqa: PLC0415

        run_on_loop(serve(settings))
    else:
        from worker.processes.parent import run_processes  # noqa: PLC0415

        run_on_loop(run_processes(settings, count))


def _checked(processes: str) -> int | str:
    try:
        checked: int | str = check_processes(processes)
    except ValueError as error:
        raise UsageError(f"--processes {processes}: {error}") from None
    return checked
