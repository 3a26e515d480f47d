"""A server that keeps what it is sent, byte for byte, and answers by a script."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto


class Trouble(Enum):
    """What may happen in place of an answer."""

    CLOSED = auto()
    RESET = auto()
    STALLED = auto()


@dataclass(frozen=True, slots=True)
class Truncated:
    """Bytes, after which the connection ends."""

    sent: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Bytes that are sent one after the other, each when the client may have read those before.

    Attributes:
        pause_seconds: between two of them.
        endless: repeated until the client closes the connection.
    """

    sent: tuple[bytes, ...]
    pause_seconds: float = 0.0
    endless: bool = False


@dataclass(frozen=True, slots=True)
class Early:
    """Bytes that are sent when the head of the request has come, before its body is read."""

    sent: bytes


Step = bytes | Trouble | Truncated | Pieces | Early


@dataclass(frozen=True, slots=True)
class Recorded:
    """One request as it came.

    Attributes:
        headers: by their names in lower case.
    """

    line: str
    headers: dict[str, str]
    body: bytes

    def without(self, *names: str) -> Recorded:
        """Give the same without some headers."""
        kept = {name: value for name, value in self.headers.items() if name not in names}
        return Recorded(self.line, kept, self.body)


def answer(
    body: bytes, status: int = 200, headers: dict[str, str] | None = None, reason: str = "Said"
) -> bytes:
    """Write an HTTP answer."""
    given = {"x-amzn-RequestId": "a-request", "Content-Type": "application/x-amz-json-1.0"}
    given["Date"] = "Sun, 22 Nov 2026 10:00:00 GMT"
    given |= headers or {}
    lines = [f"{name}: {value}" for name, value in given.items()]
    head = [f"HTTP/1.1 {status} {reason}", *lines, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


class Recorder:
    """Answer each request with the next step of the script; the last one is repeated.

    Attributes:
        requests: since the last `play`.
        connections: opened since the start.
        arrived: set by every request.
        writers: of the connections that are open.
        closed: set when one of them has ended.
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Recorded] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self.writers: set[asyncio.StreamWriter] = set()
        self.closed = asyncio.Event()
        self._script: list[Step] = []

    def play(self, *script: Step) -> None:
        """Begin a script."""
        self.requests = []
        self.arrived.clear()
        self._script = list(script)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.connections += 1
        self.writers.add(writer)
        try:
            while await self._respond(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.writers.discard(writer)
            self.closed.set()
            writer.close()

    async def _respond(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        step = self._script[0] if len(self._script) == 1 else self._script.pop(0)
        if isinstance(step, Early):
            await _send(writer, step.sent)
        self.requests.append(await _read(head, reader))
        self.arrived.set()
        match step:
            case bytes():
                await _send(writer, step)
            case Pieces():
                await _send_pieces(step, writer)
            case Truncated():
                await _send(writer, step.sent)
            case Trouble.STALLED:
                await reader.read()
            case Trouble.RESET:
                linger = struct.pack("ii", 1, 0)
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return isinstance(step, bytes | Pieces | Early)

    async def all_closed(self) -> None:
        """Wait until no connection is open."""
        async with asyncio.timeout(10):
            while self.writers:
                self.closed.clear()
                await self.closed.wait()

    def send_unasked(self, sent: bytes) -> None:
        """Send on every open connection what no request asked for."""
        for writer in self.writers:
            writer.write(sent)


async def _send(writer: asyncio.StreamWriter, sent: bytes) -> None:
    writer.write(sent)
    await writer.drain()


async def _send_pieces(pieces: Pieces, writer: asyncio.StreamWriter) -> None:
    while True:
        for piece in pieces.sent:
            await _send(writer, piece)
            await asyncio.sleep(pieces.pause_seconds)
        if not pieces.endless:
            return


async def _read(raw_head: bytes, reader: asyncio.StreamReader) -> Recorded:
    head = raw_head.decode().split("\r\n")
    pairs = [line.partition(": ") for line in head[1:] if line]
    headers = {name.lower(): value for name, _, value in pairs}
    assert len(headers) == len(pairs), f"a header twice: {head}"
    body = await reader.readexactly(int(headers["content-length"]))
    return Recorded(head[0], headers, body)


@asynccontextmanager
async def recording(tls: ssl.SSLContext | None = None) -> AsyncIterator[Recorder]:
    """Run a recorder on 127.0.0.1."""
    recorder = Recorder()
    connections: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(recorder.serve(reader, writer))
        connections.add(task)
        task.add_done_callback(connections.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    recorder.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    try:
        yield recorder
    finally:
        server.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
