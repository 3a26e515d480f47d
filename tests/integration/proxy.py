"""TCP proxy that counts connections and can break them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit


class Proxy:
    """Pass bytes on.

    Attributes:
        open_count: connections that are open now.
        most_open: the most that were open at once.
        opened_count: all that were ever opened.
        is_broken: new connections are closed at once.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._writers: set[asyncio.StreamWriter] = set()
        self.url = ""
        self.open_count = 0
        self.most_open = 0
        self.opened_count = 0
        self.is_broken = False

    def break_down(self) -> None:
        """Cut every connection and refuse new ones until `restore`."""
        self.is_broken = True
        for writer in self._writers:
            writer.transport.abort()

    def restore(self) -> None:
        """Accept connections again."""
        self.is_broken = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection."""
        if self.is_broken:
            writer.transport.abort()
            return
        self.opened_count += 1
        self.open_count += 1
        self.most_open = max(self.most_open, self.open_count)
        try:
            server_reader, server_writer = await asyncio.open_connection(self._host, self._port)
            pair = {writer, server_writer}
            self._writers |= pair
            try:
                await asyncio.gather(
                    _pass_on(reader, server_writer), _pass_on(server_reader, writer)
                )
            finally:
                self._writers -= pair
                for each in pair:
                    each.close()
        finally:
            self.open_count -= 1


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    """Run a proxy in front of a server."""
    address = urlsplit(url)
    proxy = Proxy(address.hostname or "", address.port or 80)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    proxy.url = f"http://127.0.0.1:{port}"
    async with server:
        yield proxy
        proxy.break_down()
