"""Embedded AWS: moto's server in a thread of this process, and settings to use it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from worker.errors import UsageError

SETTINGS: Final = {
    "AWS_REGION": "us-east-1",
    # moto accepts any credentials; without these, the SDK would search for real ones.
    "AWS_ACCESS_KEY_ID": "embedded",
    "AWS_SECRET_ACCESS_KEY": "embedded",
    "AUP_WRITE_API": "put",
    # With moto, two concurrent conditional puts of the same item may both succeed.
    "AUP_WRITE_CONCURRENCY": "1",
    # moto replaces the list of messages at each delete: two at once restore what one deleted.
    "AUP_SETTLE_CONCURRENCY": "1",
    "AUP_WAIT_SECONDS": "1",
    "AUP_POLL_CONCURRENCY": "4",
    "AUP_POLICY_ABSENCE_SECONDS": "0.5",
    "AUP_UNKNOWN_POLICY_SECONDS": "1",
    "AUP_BACKOFF_BASE_SECONDS": "0.5",
    "AUP_BACKOFF_CAP_SECONDS": "1",
}


@contextmanager
def embedded_aws() -> Iterator[str]:
    """Run an empty AWS on a free port of 127.0.0.1.

    Yields:
        The endpoint URL.

    Raises:
        UsageError: moto is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - optional, slow to import
    except ImportError:
        raise UsageError("the embedded AWS requires moto: pip install 'aup-worker[demo]'") from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


@contextmanager
def only_settings(settings: Mapping[str, str]) -> Iterator[None]:
    """Replace all `AWS_…` and `AUP_…` variables of the environment inside the block."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(("AWS_", "AUP_")):
            del os.environ[name]
    os.environ.update(settings)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
