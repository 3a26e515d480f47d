"""Verb that runs the service."""

from __future__ import annotations

from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.runtime.streams import never_block
from worker.service import serve
from worker.settings import load


def run() -> None:
    """Run the service until SIGTERM or SIGINT.

    A second signal stops it immediately. Exit codes: 0 clean drain, 1 drain incomplete or fatal
    error, 2 invalid settings.

    Example: AUP_QUEUE=acceptances AWS_REGION=eu-west-1 aup-worker run
    """
    settings = load()
    never_block()
    configure(settings.log_level, settings.log_format)
    run_on_loop(serve(settings))
