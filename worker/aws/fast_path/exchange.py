"""HTTP requests and responses over connections from the SDK's pool."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any

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
from worker.aws.fast_path.reader import Response


class Exchange:
    """HTTP exchanges with one URL.

    Only the pool of aiohttp and its TLS are used. Its request and response objects, parser and
    streams would cost more than the rest of a call; a pool of our own would save 1 % of it.

    Args:
        session: HTTP session of the SDK; its pool, TLS settings and timeouts are shared.
        url: URL of the endpoint.

    Raises:
        AttributeError: This version of aiohttp is not supported.
        TypeError: This version of aiohttp is not supported, or its connections are not strict.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        connector: Any = session.connector
        if not is_strict(connector):
            raise TypeError("the connections of the session are not strict")
        self._connector = connector
        self._timeout = session.timeout
        self._read_timeout = session.timeout.sock_read
        self._url = url
        self._request = aiohttp.ClientRequest(
            "POST", URL(url, encoded=True), loop=asyncio.get_running_loop(), session=session
        )
        # Checks the private interfaces that `post` uses, as far as possible without a connection.
        inspect.signature(self._connector.connect).bind(self._request, [], self._timeout)
        inspect.signature(ResponseHandler.set_response_params).bind(None, read_until_eof=True)
        inspect.signature(ResponseHandler.set_exception).bind(None, None, None)
        inspect.signature(ResponseHandler._on_read_timeout).bind(None)  # noqa: SLF001 - the same

    async def post(self, request: bytes) -> Response:
        """Send a request and return its response.

        Args:
            request: Head and body of the request.

        Raises:
            BotoCoreError: Of the subclass that the SDK raises for the same failure.
        """
        try:
            connection = await self._connector.connect(self._request, [], self._timeout)
        except Exception as error:
            raise _sdk_error(error, self._url, ConnectTimeoutError) from error
        try:
            response: Response = await connection.protocol.exchange(request, self._read_timeout)
        except BaseException as error:
            connection.close()
            if not isinstance(error, Exception):
                raise
            raise _sdk_error(error, self._url, ReadTimeoutError) from error
        connection.release()
        return response


def _sdk_error(
    error: Exception, url: str, timeout: type[ConnectTimeoutError | ReadTimeoutError]
) -> BotoCoreError:
    """Return the exception that the SDK's session raises (aiobotocore/httpsession.py)."""
    kind: type[BotoCoreError]
    match error:
        case aiohttp.ClientSSLError():
            kind = SSLError
        case aiohttp.ServerDisconnectedError() | aiohttp.ClientPayloadError():
            kind = ConnectionClosedError
        case TimeoutError():
            kind = timeout
        case aiohttp.ClientConnectionError() | socket.gaierror():
            kind = EndpointConnectionError
        case _:
            return HTTPClientError(error=error)
    return kind(endpoint_url=url, error=error)
