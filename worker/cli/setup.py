"""Verbs for development: init, schema."""

from __future__ import annotations

from worker.aws.provision import provision
from worker.cli import screen
from worker.cli.options import AsJSON
from worker.cli.running import run_async
from worker.domain.acceptance import Acceptance
from worker.settings import load


def init(as_json: AsJSON = False) -> None:
    """Create missing queues and tables.

    For development only; for production use the templates in infra/, which add encryption, alarms
    and backups.

    Example: AWS_ENDPOINT_URL=http://127.0.0.1:5000 aup-worker init
    """
    created = run_async(provision(load()))
    if as_json:
        screen.print_json(created)
        return
    for name, new in created.items():
        screen.stdout().print(screen.plain(f"{name}: {'created' if new else 'exists'}"))


def schema() -> None:
    """Print the JSON Schema of an acceptance.

    Example: aup-worker schema > acceptance.schema.json
    """
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Acceptance.model_json_schema(),
    }
    screen.print_json(document)
