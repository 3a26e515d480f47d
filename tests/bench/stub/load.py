"""Capacity of the stub, measured with raw sockets that use almost no CPU."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from tests.bench.stub.launch import Stub
from tests.bench.stub.messages import DIGITS, RECEIPT_PREFIX
from tests.bench.stub.server import HOST
from tests.bench.stub.tally import Conditions

_CONNECTIONS: Final = 16
_PER_BATCH: Final = 10
_PER_WRITE: Final = 25
_READ_BYTES: Final = 262_144
# As long as a signed SDK request.
_HEAD: Final = (
    "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept-Encoding: identity\r\n"
    "X-Amz-Target: {target}\r\nContent-Type: application/x-amz-json-1.0\r\n"
    f"User-Agent: {'x' * 180}\r\nX-Amz-Date: 20260101T000000Z\r\n"
    f"Authorization: AWS4-HMAC-SHA256 {'x' * 260}\r\namz-sdk-invocation-id: {'x' * 36}\r\n"
    "amz-sdk-request: attempt=1\r\nContent-Length: {length}\r\n\r\n"
)
_QUEUE: Final = "http://127.0.0.1/000000000000/aup-acceptances"


@dataclass(frozen=True)
class Capacity:
    """Cost of an operation to the stub.

    Attributes:
        messages_per_request: Number of messages in one request.
    """

    operation: str
    messages_per_request: int
    requests: int
    requests_per_second: float
    cpu_us_per_request: float

    @property
    def cpu_us_per_message(self) -> float:
        """CPU time of the stub per message."""
        return self.cpu_us_per_request / self.messages_per_request


def request(target: str, body: dict[str, Any]) -> bytes:
    """Return a request as the SDK would send it."""
    content = json.dumps(body)
    return (_HEAD.format(target=target, length=len(content)) + content).encode()


def _receives() -> Iterator[bytes]:
    poll = {"QueueUrl": _QUEUE, "MaxNumberOfMessages": _PER_BATCH, "WaitTimeSeconds": 20}
    one = request("AmazonSQS.ReceiveMessage", poll)
    while True:
        yield one


def _deletes() -> Iterator[bytes]:
    padding = "x" * 328
    first = 0
    while True:
        entries = [
            {
                "Id": str(index),
                "ReceiptHandle": f"{RECEIPT_PREFIX}{first + index:0{DIGITS}}{padding}",
            }
            for index in range(_PER_BATCH)
        ]
        first += _PER_BATCH
        yield request("AmazonSQS.DeleteMessageBatch", {"QueueUrl": _QUEUE, "Entries": entries})


def _writes() -> Iterator[bytes]:
    item = {f"attribute{number:02}": "x" * 28 for number in range(20)}
    names = ", ".join(f"'{name}': ?" for name in item)
    statement = {
        "Statement": f'INSERT INTO "aup-acceptances" VALUE {{{names}}}',
        "Parameters": [{"S": value} for value in item.values()],
    }
    body = {"Statements": [statement] * _PER_WRITE}
    one = request("DynamoDB_20120810.BatchExecuteStatement", body)
    while True:
        yield one


_LOADS: Final[tuple[tuple[str, int, Callable[[], Iterator[bytes]]], ...]] = (
    ("ReceiveMessage", _PER_BATCH, _receives),
    ("DeleteMessageBatch", _PER_BATCH, _deletes),
    ("BatchExecuteStatement", _PER_WRITE, _writes),
)


def measure(stub: Stub, messages: int) -> list[Capacity]:
    """Receive, delete and write messages, one operation after the other.

    Args:
        stub: The stub, which is reset.
        messages: Number of messages, rounded down to whole requests.
    """
    stub.reset(Conditions(messages=messages))
    return [
        _load(stub, operation, per_request, messages // per_request, requests())
        for operation, per_request, requests in _LOADS
    ]


def _load(
    stub: Stub, operation: str, per_request: int, count: int, requests: Iterator[bytes]
) -> Capacity:
    port = int(stub.address.plain_url.rsplit(":", 1)[1])
    ready = [next(requests) for _ in range(count)]
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((HOST, port), timeout=10))
            for _ in range(_CONNECTIONS)
        ]
        before = stub.figures()
        started_at = time.perf_counter()
        for first in range(0, count, _CONNECTIONS):
            turn = list(zip(sockets, ready[first : first + _CONNECTIONS], strict=False))
            for connection, content in turn:
                connection.sendall(content)
            for connection, _ in turn:
                _read_response(connection)
        seconds = time.perf_counter() - started_at
    cpu = stub.figures().stub_cpu_seconds - before.stub_cpu_seconds
    return Capacity(operation, per_request, count, count / seconds, cpu / count * 1e6)


def _read_response(connection: socket.socket) -> None:
    data = connection.recv(_READ_BYTES)
    if not data.startswith(b"HTTP/1.1 200"):
        raise ConnectionError(data[:100])
    while (head_end := data.find(b"\r\n\r\n")) < 0:
        data += connection.recv(_READ_BYTES)
    at = data.index(b"Content-Length: ") + 16
    missing = head_end + 4 + int(data[at : data.index(b"\r", at)]) - len(data)
    while missing > 0:
        missing -= len(connection.recv(min(missing, _READ_BYTES)))
