"""A credentials endpoint for containers, and a proxy that checks who signed requests to AWS."""

from __future__ import annotations

import http.client
import json
import re
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Final

_SIGNER: Final = re.compile(r"Credential=([^/]+)/[^/]+/[^/]+/([^/]+)/")
_NOT_FORWARDED: Final = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True, slots=True)
class Response:
    """An HTTP response."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def _serving(response: Callable[[Request], Response]) -> Iterator[str]:
    """Serve HTTP until the block ends, and yield the URL."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):  # the client may have been killed
                super().handle_one_request()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            reply = response(Request(self.command, self.path, dict(self.headers.items()), body))
            self.send_response_only(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_POST = do_GET  # noqa: N815 - the name is given by the base class

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, daemon=True)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


class CredentialsEndpoint:
    """A credentials endpoint that returns new credentials for every request, or fails.

    The SDK renews credentials ten minutes before they expire. These expire sooner, so it requests
    new ones for every call.

    Attributes:
        issued: Every access key issued so far.
        secrets: Values that must not appear anywhere else.
        variables: Environment variables that make a process use this endpoint only.
    """

    LIFETIME: Final = timedelta(minutes=5)

    def __init__(self) -> None:
        self.issued: list[str] = []
        self._password = f"password-{uuid.uuid4().hex}"
        self.secrets = [self._password]
        self.variables: dict[str, str] = {}
        self._failing: Callable[[], Response] | None = None
        self._closed = threading.Event()

    def fail(self, failure: Callable[[CredentialsEndpoint], Response] | None) -> None:
        """Fail in this way from now on, or work again if `failure` is None."""
        self._failing = None if failure is None else lambda: failure(self)

    def issue(self, lifetime: timedelta = LIFETIME) -> Response:
        """Issue credentials."""
        number = len(self.issued)
        key, secret, token = (f"{kind}{number}X{uuid.uuid4().hex}" for kind in ("ASIA", "s", "t"))
        self.issued.append(key)
        self.secrets += [secret, token]
        expiration = (datetime.now(UTC) + lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _json(
            {
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "Token": token,
                "Expiration": expiration,
            }
        )

    def hang(self) -> Response:
        """Keep the client waiting until the endpoint is closed."""
        self._closed.wait()
        return Response(503, b"")

    def _respond(self, request: Request) -> Response:
        if request.headers.get("Authorization") != self._password:
            return Response(401, b"")
        return self._failing() if self._failing else self.issue()

    @contextmanager
    def open(self) -> Iterator[CredentialsEndpoint]:
        """Serve until the block ends."""
        with _serving(self._respond) as url:
            self.variables = {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/v2/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._password,
            }
            try:
                yield self
            finally:
                self._closed.set()


def _json(document: Mapping[str, object]) -> Response:
    return Response(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


class AWSProxy:
    """A proxy that forwards requests to AWS, or rejects them with an error of AWS.

    Attributes:
        url: Endpoint URL for clients.
        signers: Services and access keys of the forwarded requests.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.signers: set[tuple[str, str]] = set()
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self._rejection: tuple[str, str] | None = None
        self._rejected: frozenset[str] = frozenset()
        self._revoked: frozenset[str] = frozenset()

    def reject(self, code: str, message: str, *names: str) -> None:
        """Reject requests to these services or operations; with none, forward everything."""
        self._rejection = (code, message)
        self._rejected = frozenset(names)

    def accept_all(self) -> None:
        """Forward everything from now on."""
        self.reject("", "")

    def revoke(self, keys: list[str]) -> None:
        """Reject requests signed with these keys as expired."""
        self._revoked = frozenset(keys)

    def _respond(self, request: Request) -> Response:
        signed = _SIGNER.search(request.headers.get("Authorization", ""))
        key, service = signed.groups() if signed else ("", "")
        if key in self._revoked:
            return _rejection(service, "ExpiredTokenException", "The security token is expired")
        headers = {name.lower(): value for name, value in request.headers.items()}
        operation = headers.get("x-amz-target", "").rpartition(".")[2]
        if self._rejection is not None and self._rejected & {service, operation}:
            return _rejection(service, *self._rejection)
        self.signers.add((service, key))
        return self._forward(request)

    def _forward(self, request: Request) -> Response:
        upstream = http.client.HTTPConnection(self._upstream)
        upstream.request(request.method, request.path, request.body, dict(request.headers))
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        headers = {
            name: value
            for name, value in response.getheaders()
            if name.lower() not in _NOT_FORWARDED
        }
        return Response(response.status, content, headers)

    @contextmanager
    def open(self) -> Iterator[AWSProxy]:
        """Serve until the block ends."""
        with _serving(self._respond) as self.url:
            yield self


def _rejection(service: str, code: str, message: str) -> Response:
    if service == "sts":  # the only one of them that uses XML
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"
        return Response(403, text.encode(), {"Content-Type": "text/xml"})
    namespace = "com.amazonaws.sqs" if service == "sqs" else "com.amazon.coral.service"
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    if service == "sqs":
        headers["x-amzn-query-error"] = f"{code.removesuffix('Exception')};Sender"
    body = json.dumps({"__type": f"{namespace}#{code}", "message": message}).encode()
    return Response(403, body, headers)
