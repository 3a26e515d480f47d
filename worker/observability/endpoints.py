"""The HTTP endpoints that a supervisor, a load balancer or Prometheus asks."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web

from worker.errors import SettingsError
from worker.observability.service_status import ServiceStatus

# Prometheus documentation, "Exposition formats": the text format.
_METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
# An answer takes a few milliseconds; whoever keeps a connection open does not delay the end.
_CLOSE_SECONDS: Final = 0.2
# Probes and scrapes take milliseconds; Prometheus itself waits for ten seconds by default.
_CONNECTION_SECONDS: Final = 10.0
_MAX_CONNECTIONS: Final = 64
_TAKEN: Final = "set AUP_HEALTH_HOST and AUP_HEALTH_PORT to an address of this host that is free"


@asynccontextmanager
async def serving(view: ServiceStatus, exposition: Callable[[], bytes]) -> AsyncIterator[None]:
    """Answer `/livez`, `/readyz` and `/metrics` as long as the block lasts.

    A connection serves one request and lasts ten seconds at most. Of more than 64 the oldest is
    closed, so that silent ones keep neither a probe from its response nor the worker from
    descriptors.

    Args:
        view: what is shown; its settings name host and port.
        exposition: gives the metrics in Prometheus' text format.

    Raises:
        SettingsError: host and port cannot be listened on.
    """
    host, port = view.settings.health_host, view.settings.health_port
    app = web.Application()

    async def live(_: web.Request) -> web.Response:
        return _answer(*_liveness(view))

    async def ready(_: web.Request) -> web.Response:
        return _answer("ready", view.why_not_ready(), {})

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=exposition(), headers={"Content-Type": _METRICS_TYPE})

    for path, handler in (("/livez", live), ("/readyz", ready), ("/metrics", metrics)):
        app.router.add_get(path, handler)
    runner = web.AppRunner(
        app, access_log=None, handle_signals=False, shutdown_timeout=_CLOSE_SECONDS
    )
    app.on_response_prepare.append(_close_afterwards)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - setup made it
    listener: asyncio.Server | None = None
    try:
        try:
            listener = await asyncio.get_running_loop().create_server(
                _bounded(runner.server), host, port
            )
        except OSError as error:
            # The event loops put the address into the text, each in another way.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
            raise SettingsError(
                [f"AUP_HEALTH_PORT={port}: cannot listen on {host}:{port} ({why}); {_TAKEN}"]
            ) from None
        yield
    finally:
        if listener is not None:
            listener.close()
        await runner.cleanup()


def _bounded(server: web.Server) -> Callable[[], web.RequestHandler]:
    """Return a protocol factory that bounds the number and the duration of connections."""
    loop = asyncio.get_running_loop()

    def accept() -> web.RequestHandler:
        for oldest in server.connections[: 1 - _MAX_CONNECTIONS]:
            _abort(oldest)
        connection = server()
        loop.call_later(_CONNECTION_SECONDS, _abort, connection)
        return connection

    return accept


def _abort(connection: web.RequestHandler) -> None:
    # Closed in order, one whose client does not read would wait for it.
    if connection.transport is not None:
        connection.transport.abort()


async def _close_afterwards(_: web.Request, response: web.StreamResponse) -> None:
    response.force_close()
    response.headers["Connection"] = "close"


def _liveness(view: ServiceStatus) -> tuple[str, list[str], dict[str, Any]]:
    accounting, age = view.metrics.accounting, view.poll_age_seconds
    return (
        "live",
        view.why_not_live(),
        {
            "last_poll_seconds_ago": None if age is None else round(age, 3),
            "event_loop_lag_seconds": round(view.loop_lag_seconds, 3),
            "slots_filled": view.slots.filled,
            "held": accounting.held,
            "books_balanced": accounting.is_balanced,
        },
    )


def _answer(name: str, reasons: list[str], facts: dict[str, Any]) -> web.Response:
    report = {name: not reasons, "reasons": reasons, **facts}
    return web.json_response(
        report, status=503 if reasons else 200, headers={"Cache-Control": "no-store"}
    )
