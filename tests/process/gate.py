"""A proxy that forwards a number of calls and then holds the next ones."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gate:
    """A proxy that forwards `allowed` calls of one operation and holds the next ones.

    Args:
        upstream: URL of the server.
        operation: The operation whose calls are counted; calls of others are always forwarded.
        allowed: Number of calls to forward.
        forwarding: Whether held calls reach the server and only their responses are held.

    Attributes:
        url: Endpoint URL for clients.
        reached: Set when a call is held.
        bodies: Request bodies of the counted calls, in order.
    """

    def __init__(
        self, upstream: str, operation: str, allowed: int, *, forwarding: bool = False
    ) -> None:
        self.reached = threading.Event()
        self.bodies: list[str] = []
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self._operation = operation
        self._allowed = allowed
        self._forwarding = forwarding
        self._is_open = False
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Forward all calls from now on, including those that are held."""
        self._is_open = True
        self._ended.set()

    def _is_allowed(self, target: str, content: bytes) -> bool:
        if not target.endswith(f".{self._operation}"):
            return True
        with self._lock:
            self.bodies.append(content.decode())
            self._allowed -= 1
            return self._allowed >= 0

    def _hold(self) -> bool:
        """Wait until the gate is released or closed, and return whether it was released."""
        self.reached.set()
        self._ended.wait()
        return self._is_open

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class _Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                is_allowed = gate._is_allowed(self.headers.get("X-Amz-Target", ""), body)
                if not (is_allowed or gate._forwarding or gate._hold()):
                    self.close_connection = True
                    return
                upstream = http.client.HTTPConnection(gate._upstream)
                upstream.request("POST", self.path, body, dict(self.headers.items()))
                response = upstream.getresponse()
                content = response.read()
                upstream.close()
                if not is_allowed and gate._forwarding and not gate._hold():
                    self.close_connection = True
                    return
                self.send_response_only(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return _Handler

    @contextmanager
    def open(self) -> Iterator[Gate]:
        """Serve until the block ends."""
        serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        serving.start()
        try:
            yield self
        finally:
            self._ended.set()
            self._server.shutdown()
            self._server.server_close()
            serving.join()
