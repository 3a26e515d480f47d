"""HTTP connections that accept exactly one response for each request."""

from __future__ import annotations

import asyncio
import select
import ssl
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.client_proto import ResponseHandler
from botocore.httpsession import create_urllib3_context, get_cert_path
from httptools import HttpParserError

from worker.aws.fast_path.reader import Response, ResponseReader

# Ten messages of 1 MiB whose JSON escapes take six bytes for each byte, and their attributes.
RESPONSE_MAX_BYTES: Final = 67_108_864
# Its stub lacks the attributes.
_SDKSession: Final[Any] = AIOHTTPSession
# Since aiobotocore 3.
_CREATION_IS_AWAITED: Final = iscoroutinefunction(_SDKSession._create_connector)  # noqa: SLF001 - overridden
_tls_contexts: Final[WeakValueDictionary[str, ssl.SSLContext]] = WeakValueDictionary()
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_FIRST_ERROR: Final = 400


class StrictConnection(ResponseHandler):
    """Connection that accepts bytes only as the single response to a request.

    aiohttp keeps bytes that arrive on an idle connection and returns them as the response to the
    next request; from then on every response belongs to the previous request. Here any unexpected
    byte closes the connection and fails the call that waits for a response.

    The SDK uses aiohttp's parser and queues; `exchange` replaces both for the signed fast path.

    Attributes:
        spoiled: Whether unexpected bytes arrived, or more than a response may have.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self.spoiled = False
        self._expecting = False
        self._sent = False
        self._body: Any = None
        self._received_bytes = 0
        self._served = False
        self._poll: select.poll | None = None
        self._reader: ResponseReader | None = None
        self._response: asyncio.Future[Response] | None = None
        self._read_seconds: float | None = None
        self._read_deadline = 0.0

    @property
    def should_close(self) -> bool:
        """Return whether the connection cannot serve another request."""
        return self.spoiled or super().should_close

    def is_connected(self) -> bool:
        """Return whether a request may be written; the pool checks this before reuse."""
        transport = self.transport
        return (
            transport is not None
            and not transport.is_closing()
            and not self.spoiled
            and not (self._served and self._has_unread_bytes())
        )

    def _has_unread_bytes(self) -> bool:
        # The kernel may have received bytes or an end of stream that the loop has not read yet.
        if self._poll is None:
            transport: Any = self.transport
            self._poll = select.poll()
            self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._poll.poll(0))

    def exchange(self, request: bytes, read_timeout: float | None) -> asyncio.Future[Response]:
        """Send a request and return the future of its response.

        The caller must await the future, and close the connection if that fails.

        Args:
            request: Head and body of the request.
            read_timeout: Limit in seconds of the time without a byte from the server.

        Raises:
            ServerDisconnectedError: The connection is closed.
        """
        transport: Any = self.transport
        if transport is None or self.spoiled:
            raise aiohttp.ServerDisconnectedError
        if self._reader is None:
            self._reader = ResponseReader()
        self._expecting = True
        self._body = None
        self._received_bytes = 0
        self._response = response = self._loop.create_future()
        transport.write(request)
        self._sent = True
        self._read_seconds = read_timeout
        self._restart_read_timeout()
        return response

    def _restart_read_timeout(self) -> None:
        # One timer serves many requests: it is set again if it fires before the deadline.
        if self._read_seconds:
            self._read_deadline = self._loop.time() + self._read_seconds
            if self._read_timeout_handle is None:
                self._set_read_timer()

    def _set_read_timer(self) -> None:
        timer = self._loop.call_at(self._read_deadline, self._check_read_deadline)
        self._read_timeout_handle = timer

    def _check_read_deadline(self) -> None:
        self._read_timeout_handle = None
        if self._response is None:
            return
        if self._loop.time() < self._read_deadline:
            self._set_read_timer()
        else:
            self._on_read_timeout()

    def _read(self, data: bytes, reader: ResponseReader) -> None:
        """Read bytes of the response to `exchange`."""
        self._restart_read_timeout()
        try:
            response = reader.read(data, early=self._is_early())
        except (aiohttp.ServerDisconnectedError, HttpParserError) as error:
            self._fail(error)
            return
        if response is not None:
            self._should_close |= not reader.keep_alive
            self._respond(response)

    def _respond(self, response: Response) -> None:
        self._completed()
        awaited, self._response = self._response, None
        if awaited is not None and not awaited.done():
            awaited.set_result(response)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """Fail the request that waits for a response."""
        super().set_exception(exc, *cause)
        awaited, self._response = self._response, None
        if awaited is not None and not awaited.done():
            awaited.set_exception(exc)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Fail the request, or complete a response that ends with the connection."""
        if exc is None and self._response is not None and self._reader is not None:
            response = self._reader.read_eof()
            if response is not None:
                self._respond(response)
        super().connection_lost(exc)

    def set_response_params(self, **params: Any) -> None:
        """Expect a response; called before each request, or after a CONNECT."""
        self._expecting = True
        self._body = None
        self._received_bytes = 0
        super().set_response_params(**params)

    def start_timeout(self) -> None:
        """Start the read timeout; called when the request has been written."""
        self._sent = True
        super().start_timeout()

    def data_received(self, data: bytes) -> None:
        """Parse bytes of the expected response; refuse all others."""
        if not data:  # resumes a paused parser
            super().data_received(data)
            return
        self._received_bytes += len(data)
        if not self._expecting:
            self._refuse("bytes that belong to no request")
        elif self._received_bytes > RESPONSE_MAX_BYTES:
            self._refuse(f"a response of more than {RESPONSE_MAX_BYTES} bytes")
        elif self._response is not None and self._reader is not None:
            self._read(data, self._reader)
        else:
            super().data_received(data)
            if self._has_bytes_left():
                self._refuse("bytes after a response")

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Queue the head of a response; refuse a second response and one that came too early."""
        message, payload = data
        if message.code == _SWITCHING_PROTOCOLS:
            self._refuse("a protocol switch")
        elif message.code < _FIRST_FINAL:
            super().feed_data(data, size)
        elif self._body is not None:
            self._refuse("a second response")
        elif self._is_early() and message.code < _FIRST_ERROR:
            self._refuse("a response to a request that was not sent yet")
        else:
            self._body = payload
            self._should_close |= self._is_early()
            super().feed_data(data, size)
            payload.on_eof(self._completed)

    def _is_early(self) -> bool:
        transport = self.transport
        return not self._sent or (transport is not None and transport.get_write_buffer_size() > 0)

    def _completed(self) -> None:
        self._expecting = False
        # Not when the next response is expected: aiohttp sends CONNECT to a proxy before that.
        self._sent = False
        self._served = True

    def _has_bytes_left(self) -> bool:
        # Only the parser has seen bytes that followed the response in the same packet, and the next
        # request gets a new parser.
        if self._expecting or self.spoiled or self._parser is None:
            return False
        try:
            return self._parser.feed_eof() is not None
        except Exception:  # noqa: BLE001 - any error means that bytes were left
            return True

    def _refuse(self, received: str) -> None:
        problem = f"the server sent {received}"
        if self._body is not None:
            self._body.set_exception(aiohttp.ClientPayloadError(problem))
        self._fail(aiohttp.ServerDisconnectedError(problem))

    def _fail(self, error: Exception) -> None:
        self.spoiled = True
        self._expecting = False
        self.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


class StrictSession(_SDKSession):  # type: ignore[misc] # the same
    """HTTP session of the SDK that uses `StrictConnection` and verifies the name of each server.

    aiobotocore 2 accepts the valid certificate of any other server, and any through a proxy.
    """

    def _create_connector(self, proxy_url: str | None) -> Any:
        created: Any
        if proxy_url or not self._verify or self._cert_file:
            created = super()._create_connector(proxy_url)
        else:
            created = aiohttp.TCPConnector(
                limit=self._max_pool_connections, ssl=self._tls_context(), **self._connector_args
            )
        return self._when_created(created) if _CREATION_IS_AWAITED else self._strict(created)

    async def _when_created(self, created: Any) -> Any:
        return self._strict(await created if isawaitable(created) else created)

    def _strict(self, connector: Any) -> Any:
        connector._factory = partial(StrictConnection, connector._loop)  # noqa: SLF001 - no public interface
        if self._verify:
            connector._ssl = connector._ssl or self._tls_context()  # noqa: SLF001 - the same
            connector._ssl.check_hostname = True  # noqa: SLF001 - the same
        return connector

    def _tls_context(self) -> ssl.SSLContext:
        return _tls_context(get_cert_path(self._verify))


def _tls_context(ca_file: Any) -> ssl.SSLContext:
    """Return the SDK's TLS context for a file of certificates; open sessions share it.

    Loading the certificates takes longer than opening a client.
    """
    context = _tls_contexts.get(ca_file)
    if context is None:
        context = _tls_contexts[ca_file] = create_urllib3_context()
        context.load_verify_locations(ca_file)
    return context


def is_strict(connector: Any) -> bool:
    """Return whether a connector's connections are strict."""
    return getattr(getattr(connector, "_factory", None), "func", None) is StrictConnection
