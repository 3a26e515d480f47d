"""What every verb would load anew, loaded once by the process whose forks run the verbs.

Models of services take 20 ms each to parse, and public CA certificates take 50 ms for each client,
although no server of these tests has a public certificate. The demonstration has a moto of its own,
and the service starts its children in forks of this process too.
"""

from __future__ import annotations

import gc
from typing import Any, Final

import boto3
from botocore import loaders

from tests.process.forked_children import fork_children
from tests.sdk_sessions import share_event_names, skip_public_certificates
from tests.servers.quick_moto import use_shortcuts

# A verb has a session for the queues and another for the tables.
_SESSIONS: Final = 2
_FileLoader: Any = loaders.JSONFileLoader  # its stub lacks the method
_load_file = _FileLoader._load_file
_copies: dict[str, list[Any]] = {}


def _taken(loader: Any, path: str, open_method: Any) -> Any:
    """Return what a file contains; every session has its own copy, because the SDK changes it."""
    copies = _copies.get(path)
    return copies.pop() if copies else _load_file(loader, path, open_method)


def _recorded(loader: Any, path: str, open_method: Any) -> Any:
    content = _load_file(loader, path, open_method)
    if content is not None:
        _copies[path] = [_load_file(loader, path, open_method) for _ in range(_SESSIONS)]
    return content


skip_public_certificates()
share_event_names()
_FileLoader._load_file = _recorded
_session = boto3.Session("test", "test", region_name="us-east-1")
for _service in ("sqs", "cloudwatch"):
    _session.client(_service)
_session.resource("dynamodb")
_FileLoader._load_file = _taken
use_shortcuts()
fork_children()
# A collection in a fork would write to, and so copy, all memory that it shares.
gc.freeze()
