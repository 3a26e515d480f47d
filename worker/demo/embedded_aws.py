"""An embedded AWS: moto's server in a thread of this process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from worker.errors import UsageError


@contextmanager
def embedded_aws() -> Iterator[str]:
    """Run an AWS on 127.0.0.1 and a free port, with nothing in it.

    Yields:
        Its endpoint URL.

    Raises:
        UsageError: moto is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer  # noqa: PLC0415 - an extra, and slow to import
    except ImportError:
        raise UsageError("the embedded AWS needs moto: pip install 'aup-worker[demo]'") from None
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()
