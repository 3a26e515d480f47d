"""HTTP endpoints for process managers, load balancers and Prometheus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Final

from aiohttp import web

from worker.errors import SettingsError
from worker.observability.service_status import ServiceStatus
from worker.runtime.http import reason_of

# Prometheus documentation, "Exposition formats": the text format.
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# A response takes milliseconds; a connection that stays open must not delay the stop.
_CLOSE_SECONDS: Final = 0.2
# Probes and scrapes take milliseconds; the default timeout of Prometheus is ten seconds.
_CONNECTION_SECONDS: Final = 10.0
_MAX_CONNECTIONS: Final = 64
_REMEDY: Final = "set AUP_HEALTH_HOST and AUP_HEALTH_PORT to a free address of this host"


@asynccontextmanager
async def serving(status: ServiceStatus, exposition: Callable[[], bytes]) -> AsyncIterator[None]:
    """Serve `/startupz`, `/livez`, `/readyz` and `/metrics` until the block ends.

    A connection serves one request and is closed after ten seconds. Above 64 connections the
    oldest is closed, so that idle clients block neither probes nor file descriptors.

    Args:
        status: status of the service; its settings have host and port.
        exposition: returns the metrics in Prometheus' text format.

    Raises:
        SettingsError: the server cannot listen on host and port.
    """
    runner = web.AppRunner(
        _application(status, exposition), access_log=None, shutdown_timeout=_CLOSE_SECONDS
    )
    await runner.setup()
    try:
        host, port = status.settings.health_host, status.settings.health_port
        try:
            listener = await asyncio.get_running_loop().create_server(_bounded(runner), host, port)
        except OSError as error:
            found = f"cannot listen on {host}:{port} ({reason_of(error)})"
            raise SettingsError([f"AUP_HEALTH_PORT={port}: {found}; {_REMEDY}"]) from None
        with closing(listener):
            yield
    finally:
        await runner.cleanup()


def _application(status: ServiceStatus, exposition: Callable[[], bytes]) -> web.Application:
    async def started(_: web.Request) -> web.Response:
        return _report("started", status.why_not_started())

    async def live(_: web.Request) -> web.Response:
        accounting, age = status.metrics.accounting, status.poll_age_seconds
        return _report(
            "live",
            status.why_not_live(),
            last_poll_seconds_ago=None if age is None else round(age, 3),
            event_loop_lag_seconds=round(status.loop_lag_seconds, 3),
            slots_filled=status.slots.filled,
            held=accounting.held,
            books_balanced=accounting.is_balanced,
        )

    async def ready(_: web.Request) -> web.Response:
        return _report("ready", status.why_not_ready())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": _METRICS_TYPE})

    app = web.Application()
    app.router.add_get("/startupz", started)
    app.router.add_get("/livez", live)
    app.router.add_get("/readyz", ready)
    app.router.add_get("/metrics", metrics)
    app.on_response_prepare.append(_close_afterwards)
    return app


def _report(name: str, reasons: list[str], **facts: Any) -> web.Response:
    body = {name: not reasons, "reasons": reasons, **facts}
    return web.json_response(
        body, status=503 if reasons else 200, headers={"Cache-Control": "no-store"}
    )


def _bounded(runner: web.AppRunner) -> Callable[[], web.RequestHandler]:
    """Return a protocol factory that limits the number and duration of connections."""
    loop, server = asyncio.get_running_loop(), runner.server
    assert server is not None  # noqa: S101 - created by setup()

    def accept() -> web.RequestHandler:
        for oldest in server.connections[: 1 - _MAX_CONNECTIONS]:
            _abort(oldest)
        connection = server()
        loop.call_later(_CONNECTION_SECONDS, _abort, connection)
        return connection

    return accept


def _abort(connection: web.RequestHandler) -> None:
    # An orderly close would wait for a client that does not read.
    if connection.transport is not None:
        connection.transport.abort()


async def _close_afterwards(_: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Connection"] = "close"
