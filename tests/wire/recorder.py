"""HTTP server that records requests and responds by a script."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum, auto


class Failure(Enum):
    """Failures in place of a response."""

    CLOSED = auto()
    RESET = auto()
    STALLED = auto()


@dataclass(frozen=True, slots=True)
class Truncated:
    """Bytes after which the server closes the connection."""

    sent: bytes


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of a response, sent separately.

    Attributes:
        pause_seconds: Pause between two pieces.
        endless: Whether to repeat the pieces until the client closes the connection.
    """

    sent: tuple[bytes, ...]
    pause_seconds: float = 0.0
    endless: bool = False


@dataclass(frozen=True, slots=True)
class Early:
    """Bytes sent after the head of the request has arrived, before its body is read."""

    sent: bytes


Step = bytes | Failure | Truncated | Pieces | Early


@dataclass(frozen=True, slots=True)
class Recorded:
    """Request as received.

    Attributes:
        line: Request line.
        headers: Headers by lower-case name.
    """

    line: str
    headers: dict[str, str]
    body: bytes

    def without(self, *names: str) -> Recorded:
        """Return the request without some headers."""
        kept = {name: value for name, value in self.headers.items() if name not in names}
        return Recorded(self.line, kept, self.body)


def http_response(
    body: bytes, status: int = 200, headers: dict[str, str] | None = None, reason: str = "Status"
) -> bytes:
    """Return an HTTP response."""
    fields = {"x-amzn-RequestId": "a-request", "Content-Type": "application/x-amz-json-1.0"}
    fields["Date"] = "Sun, 22 Nov 2026 10:00:00 GMT"
    fields |= headers or {}
    lines = [f"{name}: {value}" for name, value in fields.items()]
    head = [f"HTTP/1.1 {status} {reason}", *lines, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(head).encode() + body


class Recorder:
    """Server that responds to each request with the next step of a script.

    The last step is repeated.

    Attributes:
        url: URL of the server.
        requests: Requests since the last `play`.
        connections: Number of connections opened since the start.
        arrived: Set by every request.
        writers: Writers of the open connections.
        closed: Set when a connection has ended.
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
        """Start a script and clear the recorded requests."""
        self.requests = []
        self.arrived.clear()
        self._script = list(script)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
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
            case Failure.STALLED:
                await reader.read()
            case Failure.RESET:
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

    def send_unsolicited(self, sent: bytes) -> None:
        """Send bytes that belong to no request on every open connection."""
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
