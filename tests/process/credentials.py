"""Where a container gets its credentials, and an entrance to AWS that looks at who signed."""

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
_KEPT_BACK: Final = {"content-length", "transfer-encoding", "connection"}


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@contextmanager
def _serving(answer: Callable[[Request], Answer]) -> Iterator[str]:
    """Serve as long as the block lasts; lends the URL."""

    class _Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            with suppress(ConnectionError):  # who asked may have been killed
                super().handle_one_request()

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            given = answer(Request(self.command, self.path, dict(self.headers.items()), body))
            self.send_response_only(given.status)
            for name, value in given.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(given.body)))
            self.end_headers()
            self.wfile.write(given.body)

        do_POST = do_GET  # noqa: N815 - as the base names it

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
    """Hand out other credentials each time, or fail.

    Their life is too short for the SDK, which renews them ten minutes ahead: it asks for each call.

    Attributes:
        issued: every access key so far.
        secrets: what must not be seen anywhere else.
        environment: leads a process here, and nowhere else.
    """

    LIFE: Final = timedelta(minutes=5)

    def __init__(self) -> None:
        self.issued: list[str] = []
        self._password = f"password-{uuid.uuid4().hex}"
        self.secrets = [self._password]
        self.environment: dict[str, str] = {}
        self._failing: Callable[[], Answer] | None = None
        self._over = threading.Event()

    def fail(self, how: Callable[[CredentialsEndpoint], Answer] | None) -> None:
        """Fail in this way from now on; None mends it."""
        self._failing = None if how is None else lambda: how(self)

    def issue(self, life: timedelta = LIFE) -> Answer:
        """Make out credentials."""
        number = len(self.issued)
        key, secret, token = (f"{kind}{number}X{uuid.uuid4().hex}" for kind in ("ASIA", "s", "t"))
        self.issued.append(key)
        self.secrets += [secret, token]
        expiration = (datetime.now(UTC) + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        return _json(
            {
                "AccessKeyId": key,
                "SecretAccessKey": secret,
                "Token": token,
                "Expiration": expiration,
            }
        )

    def hang(self) -> Answer:
        """Keep whoever asks waiting until the end."""
        self._over.wait()
        return Answer(503, b"")

    def _answer(self, request: Request) -> Answer:
        if request.headers.get("Authorization") != self._password:
            return Answer(401, b"")
        return self._failing() if self._failing else self.issue()

    @contextmanager
    def open(self) -> Iterator[CredentialsEndpoint]:
        """Serve as long as the block lasts."""
        with _serving(self._answer) as url:
            self.environment = {
                "AWS_ACCESS_KEY_ID": "",
                "AWS_SECRET_ACCESS_KEY": "",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{url}/v2/credentials",
                "AWS_CONTAINER_AUTHORIZATION_TOKEN": self._password,
            }
            try:
                yield self
            finally:
                self._over.set()


def _json(document: Mapping[str, object]) -> Answer:
    return Answer(200, json.dumps(document).encode(), {"Content-Type": "application/json"})


class Entrance:
    """Look at who signed a request to AWS; let it pass, or refuse it in AWS's words.

    Attributes:
        url: where the client goes.
        signers: the services and access keys of requests that passed.
    """

    def __init__(self, upstream: str) -> None:
        self.url = ""
        self.signers: set[tuple[str, str]] = set()
        self._upstream = urllib.parse.urlsplit(upstream).netloc
        self._refusal: tuple[str, str] | None = None
        self._services: frozenset[str] = frozenset()
        self._revoked: frozenset[str] = frozenset()

    def refuse(self, code: str, message: str, *services: str) -> None:
        """Refuse what is for these services; without any of them, let all pass."""
        self._refusal = (code, message)
        self._services = frozenset(services)

    def admit_all(self) -> None:
        """Refuse nothing any more."""
        self.refuse("", "")

    def revoke(self, keys: list[str]) -> None:
        """Refuse what these keys sign, as expired."""
        self._revoked = frozenset(keys)

    def _answer(self, request: Request) -> Answer:
        signed = _SIGNER.search(request.headers.get("Authorization", ""))
        key, service = signed.groups() if signed else ("", "")
        if key in self._revoked:
            return _refusal(service, "ExpiredTokenException", "The security token is expired")
        if self._refusal is not None and service in self._services:
            return _refusal(service, *self._refusal)
        self.signers.add((service, key))
        return self._pass_on(request)

    def _pass_on(self, request: Request) -> Answer:
        upstream = http.client.HTTPConnection(self._upstream)
        upstream.request(request.method, request.path, request.body, dict(request.headers))
        answer = upstream.getresponse()
        content = answer.read()
        upstream.close()
        headers = {
            name: value for name, value in answer.getheaders() if name.lower() not in _KEPT_BACK
        }
        return Answer(answer.status, content, headers)

    @contextmanager
    def open(self) -> Iterator[Entrance]:
        """Serve as long as the block lasts."""
        with _serving(self._answer) as self.url:
            yield self


def _refusal(service: str, code: str, message: str) -> Answer:
    if service == "sts":  # the one that speaks XML
        error = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
        text = f"<ErrorResponse>{error}<RequestId>1</RequestId></ErrorResponse>"
        return Answer(403, text.encode(), {"Content-Type": "text/xml"})
    namespace = "com.amazonaws.sqs" if service == "sqs" else "com.amazon.coral.service"
    headers = {"Content-Type": "application/x-amz-json-1.0"}
    if service == "sqs":
        headers["x-amzn-query-error"] = f"{code.removesuffix('Exception')};Sender"
    body = json.dumps({"__type": f"{namespace}#{code}", "message": message}).encode()
    return Answer(403, body, headers)
