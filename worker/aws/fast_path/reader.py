"""Reader of HTTP responses on a connection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

# aiohttp limits lines and their number; a head of AWS has less than 1 KiB.
HEAD_MAX_BYTES: Final = 65_536
_SWITCHING_PROTOCOLS: Final = 101
_FIRST_FINAL: Final = 200
_FIRST_ERROR: Final = 400


@dataclass(slots=True)
class Response:
    """HTTP response.

    Attributes:
        headers: Headers by lower-case name.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    async def read(self) -> bytes:
        """Return the body; the SDK awaits this method."""
        return self.body


class _UnexpectedError(Exception):
    """Raised in a callback of the parser to stop it."""


class ResponseReader:
    """Reader of the responses on one connection, one for each request.

    Informational responses are skipped. Any byte that does not belong to the response is an error.
    The methods whose names start with `on_` are called by the parser, the llhttp of Node.js.

    Attributes:
        keep_alive: Whether the connection can serve another request after the last response.
    """

    __slots__ = (
        "_complete", "_early", "_head_bytes", "_headers", "_parser", "_pieces", "_raw_headers",
        "_status", "keep_alive", "on_body", "on_header",
    )  # fmt: skip

    def __init__(self) -> None:
        self.keep_alive = True
        self._status = 0
        self._headers: dict[str, str] = {}
        self._complete = self._early = False
        self._head_bytes = 0
        self._pieces: list[bytes] = []
        self._raw_headers: dict[bytes, bytes] = {}
        self.on_body = self._pieces.append
        self.on_header = self._raw_headers.__setitem__
        self._parser = HttpResponseParser(self)

    def read(self, data: bytes, *, early: bool) -> Response | None:
        """Parse bytes of a response.

        Args:
            data: Bytes received from the server.
            early: Whether part of the request has not been sent yet.

        Returns:
            The response if it is complete.

        Raises:
            ServerDisconnectedError: There are bytes that do not belong to the response.
            HttpParserError: The bytes are not HTTP.
        """
        self._early = early
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade as error:
            raise _unexpected("a protocol switch") from error
        except HttpParserError as error:
            if self._complete:
                raise _unexpected("bytes after a response") from error
            if isinstance(error.__context__, _UnexpectedError):
                raise _unexpected(str(error.__context__)) from None
            raise
        if self._complete:
            return self._finished()
        if not self._status:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                raise _unexpected(f"a head of more than {HEAD_MAX_BYTES} bytes")
        return None

    def read_eof(self) -> Response | None:
        """Return the response if the end of the connection is its end."""
        delimited = self._headers.keys() & {"content-length", "transfer-encoding"}
        return self._finished() if self._status and not delimited else None

    def _finished(self) -> Response:
        pieces = self._pieces
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        response = Response(self._status, self._headers, body)
        pieces.clear()
        self._status = self._head_bytes = 0
        self._complete = False
        return response

    def on_message_begin(self) -> None:
        """Start a response; refuse a second one."""
        if self._complete:
            raise _UnexpectedError
        self._raw_headers.clear()

    def on_headers_complete(self) -> None:
        """Keep the head of a response; refuse a protocol switch and an early success."""
        status = self._parser.get_status_code()
        if status < _FIRST_FINAL:
            if status == _SWITCHING_PROTOCOLS:
                raise _UnexpectedError("a protocol switch")
            return
        self.keep_alive = self._parser.should_keep_alive() and not self._early
        if self._early and status < _FIRST_ERROR:
            raise _UnexpectedError("a response to a request that was not sent yet")
        self._status = status
        self._headers = {
            name.lower().decode("latin-1"): value.decode("utf-8", "surrogateescape")
            for name, value in self._raw_headers.items()
        }

    def on_message_complete(self) -> None:
        """Complete the response, unless it is informational."""
        self._complete = self._status > 0


def _unexpected(received: str) -> aiohttp.ServerDisconnectedError:
    return aiohttp.ServerDisconnectedError(f"the server sent {received}")
