"""HTTP server of the console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from worker.console.context import ConsoleContext
from worker.console.page import CONTEXT, PAGE_NAMES, RENDERER, Page, Route, page_name, render
from worker.console.registry import PAGES
from worker.console.rendering import Renderer, asset
from worker.console.security import ACCESS, STATIC, TOKEN, Access, guard, harden
from worker.errors import AUPError, AWSDeniedError, AWSError, PolicyNotFoundError, UsageError
from worker.runtime.http import reason_of

_ASSETS: Final = {
    "console.css": "text/css",
    "console.js": "text/javascript",
    "icon.svg": "image/svg+xml",
}
_MAX_CONNECTIONS: Final = 64
# A browser sends a request at once; one that is never complete must not keep a connection.
_REQUEST_SECONDS: Final = 10.0
_KEEPALIVE_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 1.0
# For everything but streams: longer than a call to AWS with all its attempts.
RESPONSE_SECONDS: Final = 60.0
# A message of 1 MiB in a form, of which every byte may take three.
_BODY_MAX_BYTES: Final = 4_194_304
_LINE_MAX_BYTES: Final = 8190
_TEXTS: Final[dict[int, str]] = {
    HTTPStatus.NOT_FOUND: "the console has no page at this address",
    HTTPStatus.METHOD_NOT_ALLOWED: "this address does not accept this method",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: f"the form exceeds {_BODY_MAX_BYTES:,} bytes",
}
# Timers of the connections that have not sent a complete request yet.
_WAITING: Final = web.AppKey("waiting", dict[web.RequestHandler, asyncio.TimerHandle])
_log: Final = structlog.get_logger()


@asynccontextmanager
async def serving(
    context: ConsoleContext, access: Access, port: int, pages: Sequence[Page] = PAGES
) -> AsyncIterator[str]:
    """Serve the console until the block ends.

    Above 64 connections the oldest is closed. A connection whose first request is not complete
    after ten seconds is closed.

    Args:
        context: Connections and options.
        access: Secrets and host names of this run, and the address to listen on.
        port: Port to listen on; 0 for a free one.
        pages: Pages to serve.

    Yields:
        The URL to open, with the token.

    Raises:
        UsageError: The server cannot listen on this address and port.
    """
    runner = web.AppRunner(
        application(context, access, pages),
        access_log=None,
        shutdown_timeout=_CLOSE_SECONDS,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        max_line_size=_LINE_MAX_BYTES,
        max_field_size=_LINE_MAX_BYTES,
    )
    await runner.setup()
    try:
        listener = await _listen(runner, access.host, port)
        with closing(listener):
            yield _url(access, listener.sockets[0].getsockname()[1])
            context.closing.set()
    finally:
        context.closing.set()
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(_bounded(runner), host, port)
    except OSError as error:
        raise UsageError(
            f"cannot listen on {host}:{port} ({reason_of(error)}); pass a free address with "
            "--host and --port, or --port 0 for any free port"
        ) from None


def _url(access: Access, port: int) -> str:
    host = "127.0.0.1" if access.host in {"0.0.0.0", "::"} else access.host  # noqa: S104 - printed
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{port}/?{TOKEN}={access.token}"


def _bounded(runner: web.AppRunner) -> Callable[[], web.RequestHandler]:
    """Return a protocol factory that limits the number of connections and the time to a request."""
    loop, server, waiting = asyncio.get_running_loop(), runner.server, runner.app[_WAITING]
    assert server is not None  # noqa: S101 - created by setup()

    def accept() -> web.RequestHandler:
        for oldest in server.connections[: 1 - _MAX_CONNECTIONS]:
            _abort(oldest)
        connection = server()
        waiting[connection] = loop.call_later(_REQUEST_SECONDS, close_unused, connection)
        return connection

    def close_unused(connection: web.RequestHandler) -> None:
        del waiting[connection]
        _abort(connection)

    return accept


def _abort(connection: web.RequestHandler) -> None:
    # An orderly close would wait for a client that does not read.
    if connection.transport is not None:
        connection.transport.abort()


def application(
    context: ConsoleContext, access: Access, pages: Sequence[Page] = PAGES
) -> web.Application:
    """Return the application of the console.

    Args:
        context: Connections and options.
        access: Secrets and host names of this run.
        pages: Pages to serve, in the order of the navigation.
    """
    app = web.Application(
        middlewares=[_errors_as_pages, guard(access)],
        client_max_size=_BODY_MAX_BYTES,
    )
    app[CONTEXT] = context
    app[_WAITING] = {}
    app[PAGE_NAMES] = {}
    app[ACCESS] = access
    app[RENDERER] = Renderer(context, [(each.name, each.title, each.path) for each in pages])
    for name, content_type in _ASSETS.items():
        app.router.add_get(f"{STATIC}{name}", partial(_asset, asset(name), content_type))
    for page in pages:
        for route in page.routes:
            handler = _handler(route)
            app[PAGE_NAMES][handler] = page.name
            app.router.add_route(route.method, route.path, handler)
    app.on_response_prepare.append(harden)
    return app


def _handler(route: Route) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        context = request.app[CONTEXT]
        if route.sends and not context.options.allow_replay:
            return render(request, "read_only.html", http_status=HTTPStatus.FORBIDDEN)
        if route.streams:
            return await route.handler(context, request)
        async with asyncio.timeout(RESPONSE_SECONDS):
            return await route.handler(context, request)

    return handle


async def _asset(content: bytes, content_type: str, _: web.Request) -> web.Response:
    # The address contains a hash of the content.
    headers = {"Cache-Control": "private, max-age=86400, immutable"}
    return web.Response(body=content, content_type=content_type, headers=headers)


@web.middleware
async def _errors_as_pages(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Return a page for each error; unexpected ones are logged and not shown."""
    timer = request.app[_WAITING].pop(request.protocol, None)
    if timer is not None:
        timer.cancel()
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return _problem(request, error.status, _TEXTS.get(error.status) or error.text or "")
    except AWSDeniedError as error:
        return render(request, "denied.html", http_status=HTTPStatus.FORBIDDEN, error=str(error))
    except (AUPError, TimeoutError) as error:
        return _problem(request, *_expected(error))
    except Exception:  # noqa: BLE001 - a page must not show a traceback
        _log.exception("console request failed", page=page_name(request))
        text = "the console failed; its log on stderr has the details"
        return _problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, text)


def _expected(error: AUPError | TimeoutError) -> tuple[HTTPStatus, str]:
    """Return the status and the text of an error that may occur in operation."""
    if isinstance(error, TimeoutError):
        text = f"AWS did not respond within {RESPONSE_SECONDS:g} s; try again"
        return HTTPStatus.GATEWAY_TIMEOUT, text
    if isinstance(error, UsageError):
        return HTTPStatus.BAD_REQUEST, str(error)
    if isinstance(error, PolicyNotFoundError):
        return HTTPStatus.NOT_FOUND, str(error)
    is_aws = isinstance(error, AWSError)
    return HTTPStatus.BAD_GATEWAY if is_aws else HTTPStatus.CONFLICT, str(error)


def _problem(request: web.Request, status: int, text: str) -> web.Response:
    if not request.app[ACCESS].allows(request):  # the layout shows names of queues and accounts
        return web.Response(text=f"{text}\n", status=status)
    reason = HTTPStatus(status).phrase
    return render(request, "problem.html", http_status=status, reason=reason, text=text)
