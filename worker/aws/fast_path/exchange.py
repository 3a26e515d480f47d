"""One request and its answer, over a connection of the SDK's own pool."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from botocore.exceptions import (
    BotoCoreError,
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
    SSLError,
)
from yarl import URL

from worker.aws.connection import is_strict

_INFORMATIONAL: Final = range(100, 200)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """Give the body, as the SDK asks for it."""
        return self.body


class Exchange:
    """Post to one address.

    Of aiohttp only the pool, TLS and the parser of HTTP are used: making its request and response
    objects would cost more than everything else that a call does.

    Args:
        session: of the SDK; its pool, TLS and time limits are shared.
        url: where to.

    Raises:
        AttributeError, TypeError: this aiohttp is not known.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        connector: Any = session.connector
        if not is_strict(connector):
            raise TypeError("its connections are not strict")
        self._connector = connector
        self._timeout = session.timeout
        self._url = url
        self._parsing: dict[str, Any] = {
            "read_until_eof": True,
            "auto_decompress": False,
            "read_timeout": self._timeout.sock_read,
        }
        self._to = aiohttp.ClientRequest(
            "POST", URL(url, encoded=True), loop=asyncio.get_running_loop(), session=session
        )
        # Whatever `post` relies on, as far as it can be told without a connection.
        inspect.signature(self._connector.connect).bind(self._to, [], self._timeout)
        inspect.signature(ResponseHandler.set_response_params).bind(None, **self._parsing)
        inspect.signature(ResponseHandler.start_timeout).bind(None)
        inspect.signature(ResponseHandler.read).bind(None)

    async def post(self, request: bytes) -> Answer:
        """Send a request, head and body, and read its answer.

        Raises:
            BotoCoreError: of the subclass that the SDK raises for the same trouble.
        """
        try:
            connection = await self._connector.connect(self._to, [], self._timeout)
        except Exception as error:
            raise _sdk_error(error, self._url, ConnectTimeoutError) from error
        try:
            answer = await self._converse(connection.protocol, request)
        except BaseException as error:
            connection.close()
            if not isinstance(error, Exception):
                raise
            raise _sdk_error(error, self._url, ReadTimeoutError) from error
        connection.release()
        return answer

    async def _converse(self, protocol: ResponseHandler | None, request: bytes) -> Answer:
        if protocol is None or protocol.transport is None:
            raise aiohttp.ServerDisconnectedError
        protocol.set_response_params(**self._parsing)
        protocol.transport.write(request)
        protocol.start_timeout()
        message, payload = await protocol.read()
        while message.code in _INFORMATIONAL:
            message, payload = await protocol.read()
        return Answer(message.code, message.headers, await payload.read())


def _sdk_error(
    error: Exception, url: str, too_late: type[ConnectTimeoutError | ReadTimeoutError]
) -> BotoCoreError:
    """Tell of trouble as the SDK's own session does (aiobotocore/httpsession.py)."""
    kind: type[BotoCoreError]
    match error:
        case aiohttp.ClientSSLError():
            kind = SSLError
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            kind = ConnectionClosedError
        case TimeoutError():
            kind = too_late
        case aiohttp.ClientConnectionError() | socket.gaierror():
            kind = EndpointConnectionError
        case _:
            return HTTPClientError(error=error)
    return kind(endpoint_url=url, error=error)
