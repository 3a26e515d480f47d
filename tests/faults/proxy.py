"""Proxy in front of a service that makes requests fail.

Run as `python -m tests.faults.proxy --upstream URL --port N [--seed N]`: `POST /_faults` with
`{"chances": {"throttled": 0.1}, "operations": []}` sets the faults, `GET /_faults` returns counts.
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

from tests.faults import responses
from tests.faults.batches import fail_entries, fail_statements
from tests.faults.kinds import OF_ENTRIES, OF_STATEMENTS, Fault, FaultSwitch
from tests.faults.responses import HTTPResponse

CONTROL: Final = "/_faults"
_HOST: Final = "127.0.0.1"
_MAX_BYTES: Final = 32 * 1024 * 1024
# Bytes by which the stated length exceeds the body of a truncated response.
_MISSING_BYTES: Final = 64
_UPSTREAM_SECONDS: Final = 60.0
_DROPPED_HEADERS: Final = {"content-length", "accept-encoding", "connection", "expect"}
_RETURNED_HEADERS: Final = ("Content-Type", "x-amzn-RequestId", "x-amzn-query-error")

# Responses created without forwarding the request.
FABRICATED: Final[dict[Fault | None, Callable[[str, Random], HTTPResponse]]] = {
    Fault.THROTTLED: responses.throttled,
    Fault.ERROR_JSON: responses.error_json,
    Fault.ERROR_HTML: responses.error_html,
    Fault.HTML: lambda _service, _random: responses.page(),
    Fault.GARBAGE: lambda _service, random: responses.unreadable(
        b"\xff\xfe" + random.randbytes(40)
    ),
    Fault.LIST: lambda _service, _random: responses.unreadable(b"[]"),
    Fault.EMPTY: lambda _service, _random: responses.unreadable(b""),
}


class _ConnectionEnded(Exception):  # noqa: N818 - not an error
    """The client's connection must be closed without a response."""


class FaultProxy:
    """Proxy that forwards requests to one service, except those that fail.

    Args:
        upstream: URL of the service.
        faults: Decides which requests fail and how.
    """

    def __init__(self, upstream: str, faults: FaultSwitch) -> None:
        self.faults = faults
        self.url = ""
        self._upstream = upstream.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[FaultProxy]:
        """Serve until the block ends."""
        app = web.Application(client_max_size=_MAX_BYTES)
        app.router.add_route("*", CONTROL, self._control)
        app.router.add_route("*", "/{path:.*}", self._serve)
        # Requests of disconnected clients take effect, as they do at a real service.
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
            request_body = await request.json()
            chances = {Fault(name): float(each) for name, each in request_body["chances"].items()}
            self.faults.switch_on(chances, *request_body.get("operations", []))
        return web.json_response(dict(self.faults.injected))

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.read()
            response, whole = await self._respond(request, body)
            return await self._write(request, response, whole=whole)
        except (_ConnectionEnded, aiohttp.ClientError, TimeoutError):
            if request.transport is not None:
                request.transport.abort()
            return web.Response()

    async def _respond(self, request: web.Request, body: bytes) -> tuple[HTTPResponse, bool]:
        """Return the response, and whether it is to be sent completely."""
        target = request.headers.get("X-Amz-Target", "")
        fault = self.faults.draw(target.rpartition(".")[2]) if target else None

        async def forward(changed: bytes) -> HTTPResponse:
            return await self._forward(request, changed)

        if fault in OF_ENTRIES | OF_STATEMENTS:
            fail = fail_entries if fault in OF_ENTRIES else fail_statements
            applied = fault in {Fault.ENTRIES_DENIED, Fault.STATEMENTS_DENIED}
            return await fail(body, forward, self.faults.random, applied=applied), True
        if fault in FABRICATED:
            return FABRICATED[fault](responses.service_of(target), self.faults.random), True
        return await self._delayed_or_lost(
            fault, lambda: forward(body)
        ), fault is not Fault.TRUNCATED

    async def _delayed_or_lost(
        self, fault: Fault | None, forward: Callable[[], Awaitable[HTTPResponse]]
    ) -> HTTPResponse:
        if fault is Fault.RESET_BEFORE:
            raise _ConnectionEnded
        if fault is Fault.STALLED_BEFORE:
            await asyncio.sleep(self.faults.stall_seconds)
            raise _ConnectionEnded
        response = await forward()
        if fault is Fault.RESET_AFTER:
            raise _ConnectionEnded
        if fault is Fault.STALLED_AFTER:
            await asyncio.sleep(self.faults.stall_seconds)
        if fault is Fault.CUT_BODY:
            return HTTPResponse(
                response.status, response.body[: len(response.body) // 2], response.headers
            )
        return response

    async def _forward(self, request: web.Request, body: bytes) -> HTTPResponse:
        assert self._session is not None
        headers = {
            name: value
            for name, value in request.headers.items()
            if name.lower() not in _DROPPED_HEADERS
        } | {"Accept-Encoding": "identity"}
        async with self._session.request(
            request.method, self._upstream + request.path_qs, data=body, headers=headers
        ) as response:
            passed = {
                name: response.headers[name]
                for name in _RETURNED_HEADERS
                if name in response.headers
            }
            return HTTPResponse(response.status, await response.read(), passed)

    async def _write(
        self, request: web.Request, response: HTTPResponse, *, whole: bool
    ) -> web.StreamResponse:
        if whole:
            return web.Response(
                status=response.status, body=response.body, headers=response.headers
            )
        partial = web.StreamResponse(status=response.status, headers=response.headers)
        partial.content_length = len(response.body) + _MISSING_BYTES
        await partial.prepare(request)
        with suppress(ConnectionError):
            await partial.write(response.body)
        raise _ConnectionEnded


@asynccontextmanager
async def fault_proxy(upstream: str, seed: int = 0) -> AsyncIterator[FaultProxy]:
    """Yield a proxy in front of a service."""
    async with FaultProxy(upstream, FaultSwitch(seed)).listening() as proxy:
        yield proxy


async def _main() -> None:
    parser = argparse.ArgumentParser(description="Make requests to a service fail.")
    parser.add_argument("--upstream", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    proxy = FaultProxy(chosen.upstream, FaultSwitch(chosen.seed))
    async with proxy.listening(chosen.port):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_main())
