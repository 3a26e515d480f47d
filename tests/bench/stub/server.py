"""The stub as a process: two ports for clients, and one to control and read it."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import parse_qsl, urlsplit

from tests.bench.stub.certificates import make_chain
from tests.bench.stub.connection import Connection, Reply
from tests.bench.stub.processes import cpu_seconds
from tests.bench.stub.service import AWS
from tests.bench.stub.tally import Conditions

HOST: Final = "127.0.0.1"
ResultT = TypeVar("ResultT")


@dataclass(frozen=True)
class Address:
    """Addresses of a stub.

    Attributes:
        plain_url: Endpoint URL for HTTP.
        tls_url: Endpoint URL for HTTPS.
        control_port: Port that controls it.
        ca_file: Certificates that clients of `tls_url` trust.
    """

    plain_url: str
    tls_url: str
    control_port: int
    ca_file: str


@dataclass(eq=False)
class _Watch:
    reached: Callable[[], bool]
    figures: Callable[[], dict[str, Any]]
    done: asyncio.Future[dict[str, Any]]


class Server:
    """State between two resets, and the tasks that wait for it.

    Attributes:
        url: Endpoint URL in the URLs of queues.
    """

    def __init__(self) -> None:
        self.url = ""
        self._watches: list[_Watch] = []
        self._aws = AWS(Conditions(), self.url, self._notice)

    def connect(self, *, tls: bool) -> Connection:
        """Return the protocol of one connection."""
        return Connection(partial(self._opened, int(tls)), self._respond)

    def _opened(self, handshakes: int) -> None:
        self._aws.tally.connections += 1
        self._aws.tally.tls_handshakes += handshakes

    def _respond(self, target: bytes, body: bytes, reply: Reply) -> None:
        self._aws.respond(target, body, reply)

    def _notice(self) -> None:
        for watch in [watch for watch in self._watches if watch.reached()]:
            self._watches.remove(watch)
            # Read now, because the waiting task runs later.
            watch.done.set_result(watch.figures())

    async def steer(self, path: str, query: dict[str, str], body: bytes) -> dict[str, Any]:
        """Execute one command.

        Raises:
            LookupError: The command does not exist.
        """
        if path == "/reset":
            self._aws.sqs.release()
            self._aws = AWS(Conditions(**json.loads(body)), self.url, self._notice)
        elif path == "/offer":
            self._aws.sqs.offer(int(query["messages"]))
        elif path == "/release":
            self._aws.sqs.release()
        elif path == "/wait":
            return await self._wait(query)
        elif path != "/figures":
            raise LookupError(path)
        return self._aws.figures(int(query.get("since", 0)))

    async def _wait(self, query: dict[str, str]) -> dict[str, Any]:
        aws = self._aws
        settled, polls = int(query.get("settled", 0)), int(query.get("polls", 0))
        processes = [int(number) for number in query.get("processes", "").split(",") if number]

        def reached() -> bool:
            return aws.tally.settled >= settled and (not polls or aws.sqs.waiting_polls >= polls)

        def figures() -> dict[str, Any]:
            return {**aws.figures(), "cpu_seconds": _cpu_seconds(processes)}

        watch = _Watch(reached, figures, asyncio.get_running_loop().create_future())
        self._watches.append(watch)
        self._notice()
        try:
            async with asyncio.timeout(float(query["seconds"])):
                return {**await watch.done, "reached": True}
        except TimeoutError:
            self._watches.remove(watch)
            return {**figures(), "reached": False}


def _cpu_seconds(processes: list[int]) -> float:
    try:
        return sum(map(cpu_seconds, processes))
    except OSError:
        return 0.0  # the process that started them detects that one has exited


async def _steered(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Respond to one HTTP/1.0 request."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length")]
        body = await reader.readexactly(int(lengths[0].split(":")[1])) if lengths else b""
        url_parts = urlsplit(head.split()[1])
        status = "200 OK"
        try:
            response = await server.steer(url_parts.path, dict(parse_qsl(url_parts.query)), body)
        except (LookupError, TypeError, ValueError) as error:
            status, response = "400 Bad Request", {"error": repr(error)}
        content = json.dumps(response)
        writer.write(
            f"HTTP/1.0 {status}\r\nContent-Length: {len(content)}\r\n\r\n{content}".encode()
        )
        await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass  # the client has disconnected
    finally:
        writer.close()


async def serve(announce: Callable[[Address], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        announce: Called once with the address.
    """
    loop = asyncio.get_running_loop()
    server = Server()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        tls, ca_file = make_chain(Path(folder))
        plain = await loop.create_server(lambda: server.connect(tls=False), HOST, 0, backlog=1024)
        secure = await loop.create_server(
            lambda: server.connect(tls=True), HOST, 0, ssl=tls, backlog=1024
        )
        control = await asyncio.start_server(partial(_steered, server), HOST, 0)
        ports = [each.sockets[0].getsockname()[1] for each in (plain, secure, control)]
        server.url = f"http://{HOST}:{ports[0]}"
        stopping = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stopping.set)
        announce(Address(server.url, f"https://{HOST}:{ports[1]}", ports[2], str(ca_file)))
        await stopping.wait()


def print_address(address: Address) -> None:
    """Print the address of the stub as one line of JSON."""
    print(json.dumps(asdict(address)), flush=True)  # noqa: T201 - read by the parent process


def run_quickly(main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run on uvloop, which is several times faster, if it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every machine
    except ImportError:
        print("uvloop is not installed: the stub is slower", file=sys.stderr)  # noqa: T201
        return asyncio.run(main)
    return uvloop.run(main)
