"""Verbs for development: init, schema."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import typer

from worker.aws.provision import provision
from worker.cli import screen
from worker.cli.options import AsJSON
from worker.cli.running import run_async
from worker.domain.schema import asyncapi, json_schema
from worker.errors import AWSUnavailableError
from worker.settings import Settings, load

_SILENCE_SECONDS: Final = 1.0


def init(as_json: AsJSON = False) -> None:
    """Create missing queues and tables.

    For development only; for production use the templates in infra/, which add encryption, alarms
    and backups.

    Example: AWS_ENDPOINT_URL=http://127.0.0.1:5000 aup-worker init
    """
    created = run_async(_provision(load()))
    if as_json:
        screen.print_json(created)
        return
    for name, new in created.items():
        screen.stdout().print(screen.plain(f"{name}: {'created' if new else 'exists'}"))


async def _provision(settings: Settings) -> dict[str, bool]:
    """Create queues and tables; report a server that does not respond within a second.

    Raises:
        AWSUnavailableError: A server does not respond.
    """
    url = settings.aws.sqs_endpoint_url
    server = url or f"SQS in {settings.aws.region}"
    advice = "start the server or correct AWS_ENDPOINT_URL" if url else "check the network"
    waiting = asyncio.get_running_loop().call_later(
        _SILENCE_SECONDS, screen.note, f"no response from {server} yet: {advice}"
    )
    try:
        return await provision(settings, on_response=waiting.cancel)
    except AWSUnavailableError as error:
        raise AWSUnavailableError(f"{error}; {advice}") from None
    finally:
        waiting.cancel()


def schema(
    as_asyncapi: Annotated[
        bool,
        typer.Option(
            "--asyncapi", help="Print an AsyncAPI 3 document of the queue and its messages."
        ),
    ] = False,
) -> None:
    """Print the JSON Schema of an acceptance.

    With --asyncapi, queue and server are those of the settings and connection options.

    Example: aup-worker schema > acceptance.schema.json
    """
    screen.print_json(asyncapi(load()) if as_asyncapi else json_schema())
