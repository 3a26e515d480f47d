"""The verb that is the service."""

from __future__ import annotations

from worker.runtime.event_loop import run_on_loop
from worker.runtime.logs import configure
from worker.runtime.signals import ignore_signals
from worker.runtime.streams import never_block
from worker.service import serve
from worker.settings import Settings, load


def run() -> None:
    """Run the service until SIGTERM or SIGINT.

    A second signal stops it at once. Exit codes: 0 after a clean drain, 1 when it had to give up,
    2 for wrong settings.

    Example: AUP_QUEUE=acceptances AWS_REGION=eu-west-1 aup-worker run
    """
    settings = load()
    never_block()
    configure(settings.log_level, settings.log_format)
    run_on_loop(_served(settings))


async def _served(settings: Settings) -> None:
    try:
        await serve(settings)
    finally:
        ignore_signals()
