"""What every verb would load anew, loaded once by the process whose forks run the verbs.

Models of services take 20 ms each to parse and longer to find. The demonstration has a moto of its
own, and the service starts its children in forks of this process too.
"""

from __future__ import annotations

import gc
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

import boto3

from tests.process.forked_children import fork_children
from tests.sdk_sessions import share_event_names, share_models, skip_public_certificates
from tests.servers.quick_moto import use_shortcuts

# Imported only when a verb is run.
_LATE: Final = ("typer._adapters", "typer._click.decorators", "rich._emoji_codes")

skip_public_certificates()
share_event_names()
share_models()
_session: Any = boto3.Session("test", "test", region_name="us-east-1")
for _service in ("sqs", "cloudwatch"):
    _session.client(_service)
_session.resource("dynamodb")
for _name in _LATE:
    with suppress(ImportError):  # of another version
        import_module(_name)
use_shortcuts()
fork_children()
# A collection in a fork would write to, and so copy, all memory that it shares.
gc.freeze()
