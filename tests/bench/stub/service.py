"""SQS and DynamoDB behind one port: dispatch, latency, checksums and counting."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import Any, Final

from tests.bench.stub.dynamodb import DynamoDB
from tests.bench.stub.sqs import SQS, Reply
from tests.bench.stub.tally import Conditions, Tally

_ERROR: Final = b'{"__type":"com.amazon.coral.service#UnknownOperationException"}'
_REQUEST_ID: Final = "4f0c9f0a-6d7e-5b0e-9a53-c1f7a3a1d2b4"
Handler = Callable[[bytes], bytes]


class AWS:
    """State of SQS and DynamoDB between two resets.

    Args:
        conditions: Conditions of the run.
        url: Endpoint URL in the URLs of queues.
        notice: Called when messages were deleted or a poll began to wait.
    """

    def __init__(self, conditions: Conditions, url: str, notice: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self.tally = Tally(conditions)
        self.sqs = SQS(self.tally, url, loop.call_later, notice)
        self._dynamodb = DynamoDB(self.tally)
        self._later = loop.call_later
        self._heads_at = 0.0
        self._heads = (b"", b"")
        sqs, dynamodb = self.sqs, self._dynamodb
        self._sqs_handlers: dict[str, Handler] = {
            "DeleteMessageBatch": sqs.delete_batch,
            "DeleteMessage": sqs.delete,
            "ChangeMessageVisibilityBatch": sqs.change_visibility_batch,
            "SendMessageBatch": sqs.send_batch,
            "GetQueueUrl": sqs.queue_url,
            "GetQueueAttributes": sqs.queue_attributes,
        }
        self._dynamodb_handlers: dict[str, Handler] = {
            "BatchExecuteStatement": dynamodb.execute_batch,
            "PutItem": dynamodb.put,
            "GetItem": dynamodb.get,
        }
        self._targets = {
            **self._dispatch("AmazonSQS", self._sqs_handlers, self._respond_sqs),
            **self._dispatch("DynamoDB_20120810", self._dynamodb_handlers, self._respond_dynamodb),
            b"amazonsqs.receivemessage": self._receive,
        }

    @staticmethod
    def _dispatch(
        prefix: str,
        handlers: dict[str, Handler],
        respond: Callable[[str, Handler, bytes, Reply], None],
    ) -> dict[bytes, Callable[[bytes, Reply], None]]:
        return {
            f"{prefix}.{operation}".lower().encode(): partial(respond, operation, handler)
            for operation, handler in handlers.items()
        }

    def respond(self, target: bytes, body: bytes, reply: Reply) -> None:
        """Reply to a request after the latency of its service."""
        found = self._targets.get(target)
        if found is None:
            self.tally.calls["unknown"] += 1
            head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n" % len(_ERROR)
            reply(head + _ERROR)
            return
        found(body, reply)

    def _receive(self, body: bytes, reply: Reply) -> None:
        self.tally.calls["ReceiveMessage"] += 1

        def reply_sqs(response: bytes) -> None:
            reply(self._sqs_response(response))

        seconds = self.tally.conditions.sqs_latency_seconds
        if seconds:
            self._later(seconds, self.sqs.receive, body, reply_sqs)
        else:
            self.sqs.receive(body, reply_sqs)

    def _respond_sqs(self, operation: str, handler: Handler, body: bytes, reply: Reply) -> None:
        self.tally.calls[operation] += 1
        self.tally.sqs_request_units += 1
        response = self._sqs_response(handler(body))
        self._send(self.tally.conditions.sqs_latency_seconds, response, reply)

    def _respond_dynamodb(
        self, operation: str, handler: Handler, body: bytes, reply: Reply
    ) -> None:
        self.tally.calls[operation] += 1
        content = handler(body)
        response = b"%b%d\r\nx-amz-crc32: %d\r\n\r\n%b" % (
            self._head(1),
            len(content),
            zlib.crc32(content),
            content,
        )
        self._send(self.tally.conditions.dynamodb_latency_seconds, response, reply)

    def _send(self, seconds: float, response: bytes, reply: Reply) -> None:
        if seconds:
            self._later(seconds, reply, response)
        else:
            reply(response)

    def _sqs_response(self, content: bytes) -> bytes:
        return b"%b%d\r\n\r\n%b" % (self._head(0), len(content), content)

    def _head(self, service: int) -> bytes:
        now = time.monotonic()
        if now - self._heads_at > 0.5:
            self._heads_at = now
            self._heads = (
                _head("x-amzn-RequestId", "application/x-amz-json-1.0"),
                _head("x-amzn-RequestId", "application/x-amz-json-1.0", "Server: Server\r\n"),
            )
        return self._heads[service]

    def figures(self, since: int = 0) -> dict[str, Any]:
        """Return all counters and the number of waiting polls."""
        return {**self.tally.figures(since), "waiting_polls": self.sqs.waiting_polls}


def _head(id_name: str, content_type: str, more: str = "") -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\n{id_name}: {_REQUEST_ID}\r\nDate: {formatdate(usegmt=True)}\r\n"
        f"{more}Content-Type: {content_type}\r\nConnection: keep-alive\r\nContent-Length: "
    ).encode()
