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


Step = bytes | Trouble | Truncated


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
    """

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[Recorded] = []
        self.connections = 0
        self.arrived = asyncio.Event()
        self._script: list[Step] = []

    def play(self, *script: Step) -> None:
        """Begin a script."""
        self.requests = []
        self.arrived.clear()
        self._script = list(script)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection."""
        self.connections += 1
        try:
            while True:
                request = await _read(reader)
                self.requests.append(request)
                self.arrived.set()
                step = self._script[0] if len(self._script) == 1 else self._script.pop(0)
                if step is Trouble.STALLED:
                    await reader.read()
                if isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                    continue
                if step is Trouble.RESET:
                    linger = struct.pack("ii", 1, 0)
                    connection: socket.socket = writer.get_extra_info("socket")
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                if isinstance(step, Truncated):
                    writer.write(step.sent)
                    await writer.drain()
                break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def _read(reader: asyncio.StreamReader) -> Recorded:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
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
