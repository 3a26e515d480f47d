"""Channel between the parent and a child: a pair of sockets with a JSON object on each line.

The end of the parent is the end of its socket, which a child notices on every platform.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import suppress
from typing import Any, Final

_LINE_MAX_BYTES: Final = 1_048_576
# A reader that is suspended must not let the writer's memory grow.
_UNREAD_MAX_BYTES: Final = 1_048_576
_CLOSE_SECONDS: Final = 1.0


class Channel:
    """One end of a channel.

    Args:
        reader: stream of lines from the other end.
        writer: stream of lines to the other end.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> Channel:
        """Return the channel of one of two connected sockets."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=_LINE_MAX_BYTES))

    def send(self, message: dict[str, Any]) -> bool:
        """Send a message without waiting.

        Returns:
            False if the other end has ended or does not read.
        """
        transport = self._writer.transport
        if transport.is_closing() or transport.get_write_buffer_size() > _UNREAD_MAX_BYTES:
            return False
        self._writer.write(json.dumps(message).encode() + b"\n")
        return True

    async def receive(self) -> dict[str, Any] | None:
        """Return the next message; None at the end.

        The last line is incomplete if the other end was killed while it wrote, and is ignored.
        """
        try:
            line = await self._reader.readline()
        except OSError:
            return None
        if not line.endswith(b"\n"):
            return None
        message: dict[str, Any] = json.loads(line)
        return message

    async def aclose(self) -> None:
        """Send what was written, and close the channel."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._writer.drain()
                self._writer.close()
                await self._writer.wait_closed()
        self._writer.transport.abort()
