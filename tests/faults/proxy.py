"""Stand between a client and a service, and let requests fail.

Run as `python -m tests.faults.proxy --upstream URL --port N [--seed N]`: `POST /_faults` with
`{"chances": {"throttled": 0.1}, "operations": []}` switches, `GET /_faults` tells what happened.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random
from typing import Final

import aiohttp
from aiohttp import web

from tests.faults import answers
from tests.faults.answers import Answer
from tests.faults.batches import fail_entries, fail_statements
from tests.faults.kinds import OF_ENTRIES, OF_STATEMENTS, Fault, Switchboard

CONTROL: Final = "/_faults"
_HOST: Final = "127.0.0.1"
_MOST_BYTES: Final = 32 * 1024 * 1024
# Larger than any answer under test: the rest never comes.
_MISSING_BYTES: Final = 64
_UPSTREAM_SECONDS: Final = 60.0
_KEPT_BACK: Final = {"content-length", "accept-encoding", "connection", "expect"}
_PASSED_BACK: Final = ("Content-Type", "x-amzn-RequestId", "x-amzn-query-error")

# The answers that the service knows nothing of.
MADE_UP: Final[dict[Fault | None, Callable[[str, Random], Answer]]] = {
    Fault.THROTTLED: answers.throttled,
    Fault.ERROR_JSON: answers.error_json,
    Fault.ERROR_HTML: answers.error_html,
    Fault.HTML: lambda _service, _random: answers.page(),
    Fault.GARBAGE: lambda _service, random: answers.unreadable(b"\xff\xfe" + random.randbytes(40)),
    Fault.LIST: lambda _service, _random: answers.unreadable(b"[]"),
    Fault.EMPTY: lambda _service, _random: answers.unreadable(b""),
}


class _ConnectionEnded(Exception):  # noqa: N818 - no error: it is what was wanted
    """The client's connection is to end without an answer."""


class FaultProxy:
    """Pass requests on to one service, but for those that fail.

    Args:
        upstream: the service's URL.
        faults: say which request fails, and how.
    """

    def __init__(self, upstream: str, faults: Switchboard) -> None:
        self.faults = faults
        self.url = ""
        self._upstream = upstream.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[FaultProxy]:
        """Serve for as long as the block lasts."""
        app = web.Application(client_max_size=_MOST_BYTES)
        app.router.add_route("*", CONTROL, self._control)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # What a lost client began is done all the same: a service does not notice either.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=False, shutdown_timeout=1)
        await runner.setup()
        timeout = aiohttp.ClientTimeout(total=_UPSTREAM_SECONDS)
        connector = aiohttp.TCPConnector(limit=0)
        try:
            async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
                self._session = session
                site = web.TCPSite(runner, _HOST, port)
                await site.start()
                self.url = f"http://{_HOST}:{runner.addresses[0][1]}"
                yield self
                self.faults.switch_off()
                await runner.cleanup()
        finally:
            await runner.cleanup()

    async def _control(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            wanted = await request.json()
            chances = {Fault(name): float(each) for name, each in wanted["chances"].items()}
            self.faults.switch_on(chances, *wanted.get("operations", []))
        return web.json_response(dict(self.faults.injected))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
            answer, whole = await self._answer(request, body)
            return await self._write(request, answer, whole=whole)
        except (_ConnectionEnded, aiohttp.ClientError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _answer(self, request: web.Request, body: bytes) -> tuple[Answer, bool]:
        """Answer a request, and say whether all of the answer is to arrive."""
        target = request.headers.get("X-Amz-Target", "")
        fault = self.faults.draw(target.rpartition(".")[2]) if target else None

        async def forward(changed: bytes) -> Answer:
            return await self._forward(request, changed)

        if fault in OF_ENTRIES | OF_STATEMENTS:
            fail = fail_entries if fault in OF_ENTRIES else fail_statements
            done = fault in {Fault.ENTRIES_DENIED, Fault.STATEMENTS_DENIED}
            return await fail(body, forward, self.faults.random, done=done), True
        if fault in MADE_UP:
            return MADE_UP[fault](answers.service_of(target), self.faults.random), True
        return await self._late_or_lost(fault, lambda: forward(body)), fault is not Fault.TRUNCATED

    async def _late_or_lost(
        self, fault: Fault | None, forward: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        if fault is Fault.RESET_BEFORE:
            raise _ConnectionEnded
        if fault is Fault.STALLED_BEFORE:
            await asyncio.sleep(self.faults.stall_seconds)
            raise _ConnectionEnded
        answer = await forward()
        if fault is Fault.RESET_AFTER:
            raise _ConnectionEnded
        if fault is Fault.STALLED_AFTER:
            await asyncio.sleep(self.faults.stall_seconds)
        if fault is Fault.CUT:
            return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.headers)
        return answer

    async def _forward(self, request: web.Request, body: bytes) -> Answer:
        assert self._session is not None
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in _KEPT_BACK
        } | {"Accept-Encoding": "identity"}
        async with self._session.request(
            request.method, self._upstream + request.path_qs, data=body, headers=headers
        ) as response:
            passed = {
                name: response.headers[name] for name in _PASSED_BACK if name in response.headers
            }
            return Answer(response.status, await response.read(), passed)

    async def _write(
        self, request: web.Request, answer: Answer, *, whole: bool
    ) -> web.StreamResponse:
        if whole:
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body) + _MISSING_BYTES
        await response.prepare(request)
        with suppress(ConnectionError):
            await response.write(answer.body)
        raise _ConnectionEnded


@asynccontextmanager
async def faults_before(upstream: str, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """Lend a proxy in front of a service."""
    async with FaultProxy(upstream, Switchboard(seed)).listening() as proxy:
        yield proxy


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Let requests to a service fail.")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    proxy = FaultProxy(chosen.upstream, Switchboard(chosen.seed))
    async with proxy.listening(chosen.port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
