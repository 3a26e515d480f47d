"""Fake AWS server that delays its responses to count concurrent calls."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from tests.unit.fakes import TEXT_SHA256

_HOST: Final = "127.0.0.1"
_TABLE_ERRORS: Final = {"known": "DuplicateItem", "odd": "ValidationError"}


class HoldingServer:
    """Server that returns messages and holds every call that settles them.

    The user id decides the response to a write: `good` is recorded, `known` is a duplicate, `odd`
    is rejected, and a batch with `stuck` is held. Reads of unpublished policies are held.

    Attributes:
        url: Endpoint URL.
        arrived: Number of calls received, by operation.
        pending: Number of calls being held, by operation.
    """

    def __init__(self) -> None:
        self.url = ""
        self.arrived: Counter[str] = Counter()
        self.pending: Counter[str] = Counter()
        self._messages: deque[str] = deque()
        self._sent = asyncio.Event()
        self._released = asyncio.Event()
        self._received_count = 0

    def send(self, *bodies: str) -> None:
        """Add messages to the queue."""
        self._messages.extend(bodies)
        self._sent.set()

    def release(self) -> None:
        """Respond to all held calls and to every later call."""
        self._released.set()
        self._sent.set()

    async def serve(self, request: web.Request) -> web.Response:
        """Respond to a call, once released if it must be held."""
        operation = request.headers["X-Amz-Target"].rpartition(".")[2]
        body = await request.json()
        self.arrived[operation] += 1
        self.pending[operation] += 1
        try:
            response = await getattr(self, f"_{operation}")(body)
        finally:
            self.pending[operation] -= 1
        content_type = "application/x-amz-json-1.0"
        return web.Response(text=json.dumps(response), content_type=content_type)

    async def _ReceiveMessage(self, body: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802 - AWS's name
        while not self._messages and not self._released.is_set():
            self._sent.clear()
            await self._sent.wait()
        count = min(body["MaxNumberOfMessages"], len(self._messages))
        return {"Messages": [self._received(self._messages.popleft()) for _ in range(count)]}

    def _received(self, body: str) -> Mapping[str, Any]:
        self._received_count += 1
        number = self._received_count
        return {"MessageId": f"message-{number}", "ReceiptHandle": f"handle-{number}", "Body": body}

    async def _settle(self, body: Mapping[str, Any]) -> Mapping[str, Any]:
        await self._released.wait()
        return {"Successful": [_success(entry) for entry in body["Entries"]]}

    _DeleteMessageBatch = _ChangeMessageVisibilityBatch = _SendMessageBatch = _settle

    async def _GetItem(self, body: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802 - AWS's name
        key = {name: value.get("S") for name, value in body["Key"].items()}
        if key.get("version") == "2026-01":
            return {"Item": _policy_item()}
        if key.get("policy_id") == "acceptable-use#2026-01":
            return {}  # no text in another language
        await self._released.wait()
        return {}

    async def _BatchExecuteStatement(self, body: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: N802 - AWS's name
        users = [_user(statement["Parameters"]) for statement in body["Statements"]]
        if "stuck" in users:
            await self._released.wait()
        errors = [_TABLE_ERRORS.get(user) for user in users]
        return {
            "Responses": [
                {"Error": {"Code": error, "Message": "no"}} if error else {} for error in errors
            ]
        }


def _success(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    digest = hashlib.md5(entry.get("MessageBody", "").encode(), usedforsecurity=False)
    return {"Id": entry["Id"], "MessageId": entry["Id"], "MD5OfMessageBody": digest.hexdigest()}


def _user(parameters: Sequence[Mapping[str, str]]) -> str:
    texts = [parameter.get("S", "") for parameter in parameters]
    return next(text.partition("-")[0] for text in texts if text.endswith("-user"))


def _policy_item() -> Mapping[str, Any]:
    fields = {
        "policy_id": "acceptable-use",
        "version": "2026-01",
        "title": "Acceptable Use Policy",
        "content_sha256": TEXT_SHA256,
        "published_at": "2026-01-01T00:00:00Z",
        "effective_at": "2026-01-01T00:00:00Z",
    }
    return {name: {"S": value} for name, value in fields.items()}


@asynccontextmanager
async def holding_server() -> AsyncIterator[HoldingServer]:
    """Yield a server that runs until the block ends."""
    server = HoldingServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", server.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, _HOST, 0).start()
        server.url = f"http://{_HOST}:{runner.addresses[0][1]}"
        yield server
    finally:
        server.release()
        await runner.cleanup()
