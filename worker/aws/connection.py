"""HTTP connections that accept exactly one response for each request."""

from __future__ import annotations

import asyncio
import select
import ssl
from functools import partial
from typing import Any, Final
from weakref import WeakValueDictionary

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.client_proto import ResponseHandler
from botocore.httpsession import create_urllib3_context, get_cert_path

# Ten messages of 1 MiB whose JSON escapes take six bytes for each byte, and their attributes.
RESPONSE_MAX_BYTES: Final = 67_108_864
# Its stub lacks the attributes.
_SDKSession: Final[Any] = AIOHTTPSession
_tls_contexts: Final[WeakValueDictionary[str, ssl.SSLContext]] = WeakValueDictionary()
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_FIRST_ERROR: Final = 400


class StrictConnection(ResponseHandler):
    """Connection that accepts bytes only as the single response to a request.

    aiohttp keeps bytes that arrive on an idle connection and returns them as the response to the
    next request; from then on every response belongs to the previous request. Here any unexpected
    byte closes the connection and fails the call that waits for a response.

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

    @property
    def should_close(self) -> bool:
        """Return whether the connection cannot serve another request."""
        return self.spoiled or super().should_close

    def is_connected(self) -> bool:
        """Return whether a request may be written; the pool checks this before reuse."""
        return (
            super().is_connected()
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

    def set_response_params(self, **params: Any) -> None:
        """Expect a response; called before each request."""
        self._expecting = True
        self._sent = False
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
        self.spoiled = True
        self._expecting = False
        problem = f"the server sent {received}"
        if self._body is not None:
            self._body.set_exception(aiohttp.ClientPayloadError(problem))
        self.set_exception(aiohttp.ServerDisconnectedError(problem))
        if self.transport is not None:
            self.transport.abort()


class StrictSession(_SDKSession):  # type: ignore[misc] # the same
    """HTTP session of the SDK that uses `StrictConnection`."""

    def _create_connector(self, proxy_url: str | None) -> aiohttp.TCPConnector:
        connector: Any
        if proxy_url or not self._verify or self._cert_file:
            connector = super()._create_connector(proxy_url)
        else:
            connector = aiohttp.TCPConnector(
                limit=self._max_pool_connections,
                ssl=_tls_context(get_cert_path(self._verify)),
                **self._connector_args,
            )
        connector._factory = partial(StrictConnection, connector._loop)  # noqa: SLF001 - no public interface
        return connector  # type: ignore[no-any-return] # a private part of it was set


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
