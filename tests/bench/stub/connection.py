"""HTTP/1.1 on an asyncio protocol: frames requests, finds the operation, writes responses."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, cast

_TARGET: Final = re.compile(rb"\r\nx-amz-target: *([a-z0-9_.]+)")
_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)")
_HEAD_END: Final = b"\r\n\r\n"


Reply = Callable[[bytes], None]


class Connection(asyncio.Protocol):
    """Splits the stream into requests.

    Args:
        opened: Called once when the connection is open.
        respond: Replies with a complete HTTP response, now or later.
    """

    def __init__(
        self, opened: Callable[[], None], respond: Callable[[bytes, bytes, Reply], None]
    ) -> None:
        self._opened = opened
        self._respond = respond
        self._buffer = bytearray()
        self._needed = 0
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._opened()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None

    def reply(self, response: bytes) -> None:
        """Write a response, unless the client has disconnected."""
        if self._transport is not None:
            self._transport.write(response)

    def data_received(self, data: bytes) -> None:
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._needed:
                return
            data = bytes(self._buffer)
            self._buffer.clear()
        start, size = 0, len(data)
        while start < size:
            head_end = data.find(_HEAD_END, start)
            if head_end < 0:
                self._needed = 0
                break
            head = data[start : head_end + 2].lower()
            length = _LENGTH.search(head)
            body_start = head_end + 4
            end = body_start + (int(length[1]) if length else 0)
            if end > size:
                self._needed = end - start
                break
            target = _TARGET.search(head)
            self._respond(target[1] if target else b"", data[body_start:end], self.reply)
            start = end
        if start < size:
            self._buffer += data[start:]
