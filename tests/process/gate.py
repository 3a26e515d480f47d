"""A gate before a server that lets some calls pass and holds the next one for ever."""

from __future__ import annotations

import http.client
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Gate:
    """Let `passing` calls of one operation through; the next ones never arrive.

    Args:
        upstream: URL of the server.
        operation: its calls are counted; all others pass.
        passing: how many.
        arriving: whether the next ones do arrive, and only their answers never come.

    Attributes:
        url: where the client goes.
        reached: set when a call is held.
        bodies: of the calls of that operation, in order.
    """

    def __init__(
        self, upstream: str, operation: str, passing: int, *, arriving: bool = False
    ) -> None:
        self.reached = threading.Event()
        self.bodies: list[str] = []
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self._operation = operation
        self._passing = passing
        self._arriving = arriving
        self._is_open = False
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def release(self) -> None:
        """Let all calls pass from now on, those that are held too."""
        self._is_open = True
        self._over.set()

    def _passes(self, target: str, content: bytes) -> bool:
        if not target.endswith(f".{self._operation}"):
            return True
        with self._lock:
            self.bodies.append(content.decode())
            self._passing -= 1
            return self._passing >= 0

    def _hold(self) -> bool:
        """Wait until the gate is opened or closed; say which."""
        self.reached.set()
        self._over.wait()
        return self._is_open

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class _Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
                passes = gate._passes(self.headers.get("X-Amz-Target", ""), body)
                if not (passes or gate._arriving or gate._hold()):
                    self.close_connection = True
                    return
                upstream = http.client.HTTPConnection(gate._upstream)
                upstream.request("POST", self.path, body, dict(self.headers.items()))
                answer = upstream.getresponse()
                content = answer.read()
                upstream.close()
                if not passes and gate._arriving and not gate._hold():
                    self.close_connection = True
                    return
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
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
        """Serve as long as the block lasts."""
        serving = threading.Thread(target=self._server.serve_forever, daemon=True)
        serving.start()
        try:
            yield self
        finally:
            self._over.set()
            self._server.shutdown()
            self._server.server_close()
            serving.join()
