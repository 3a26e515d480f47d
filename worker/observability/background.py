"""Background tasks of the service, and optional traces.

Each runs only if settings or environment variables enable it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.observability.service_status import ServiceStatus
from worker.runtime import logs

if TYPE_CHECKING:
    from worker.observability.tracing import OpenTelemetry

_log: Final = structlog.get_logger()

# Optional modules are imported only if they are used: the service starts faster without them.
# ruff: noqa: PLC0415


@asynccontextmanager
async def background_tasks(status: ServiceStatus) -> AsyncIterator[None]:
    """Run the health endpoints, systemd notifications, ECS scale-in protection and the live line.

    Settings enable the endpoints, environment variables of systemd and ECS the next two, and a log
    on a terminal the live line. A task that fails does not end the service.

    Raises:
        SettingsError: the endpoints cannot listen on their port.
    """
    async with AsyncExitStack() as stack:
        if status.settings.health_port is not None:
            from worker.observability.endpoints import serving
            from worker.observability.prometheus import exposition

            await stack.enter_async_context(serving(status, exposition(status)))
        if (sink := logs.terminal_sink()) is not None:
            from worker.observability.live_line import live_line

            await stack.enter_async_context(live_line(status, sink))
        await _identify_task(status)
        tasks = [
            asyncio.create_task(_log_failure(each))
            for each in (_notifications(status), _protection(status))
            if each is not None
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _log_failure(coroutine: Coroutine[Any, Any, None]) -> None:
    try:
        await coroutine
    except Exception:  # noqa: BLE001 - monitoring must not end the service
        _log.exception("background task failed")


def _notifications(status: ServiceStatus) -> Coroutine[Any, Any, None] | None:
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return None
    from worker.observability.systemd import Systemd, watchdog_seconds

    return Systemd(address, status, watchdog_seconds(os.environ)).run()


def _protection(status: ServiceStatus) -> Coroutine[Any, Any, None] | None:
    agent_uri = os.environ.get("ECS_AGENT_URI")
    if not status.settings.ecs_protection:
        return None
    if not agent_uri:
        _log.warning("AUP_ECS_PROTECTION ignored: ECS_AGENT_URI is not set, not an ECS task")
        return None
    from worker.observability.ecs import ScaleInProtection

    return ScaleInProtection(agent_uri, status).run()


async def _identify_task(status: ServiceStatus) -> None:
    """Add the identity of the ECS task to every log line; do nothing outside ECS."""
    metadata_uri = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if metadata_uri:
        from worker.observability.ecs import identity

        status.identity = await identity(metadata_uri)
        logs.bind(status.identity)


@asynccontextmanager
async def traced(report: Callable[[str], None]) -> AsyncIterator[OpenTelemetry | None]:
    """Yield the tracing that OpenTelemetry's environment variables configure, or None.

    An invalid configuration is reported, and traces stay off.

    Args:
        report: called with one line if there are no traces although they are configured.
    """
    async with AsyncExitStack() as stack:
        tracing = None
        try:
            if _is_configured():
                tracing = await stack.enter_async_context(_exporting(report))
        except ValueError as error:
            report(f"{error}; continuing without traces")
        yield tracing


def _is_configured() -> bool:
    """Return whether traces are configured; the default exporter alone does not enable them.

    Source: OpenTelemetry specification, "Environment Variable Specification".
    """
    if _variable("OTEL_SDK_DISABLED") == "true":
        return False
    exporter = _variable("OTEL_TRACES_EXPORTER")
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter != "none" if exporter else any(map(os.environ.get, endpoints))


def _exporting(report: Callable[[str], None]) -> AbstractAsyncContextManager[OpenTelemetry]:
    exporter = _variable("OTEL_TRACES_EXPORTER")
    if exporter not in {"", "otlp"}:
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: must be otlp or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = _variable(name)
        if protocol not in {"", "http/protobuf"}:
            raise ValueError(f"{name}={protocol}: must be http/protobuf")
        if protocol:
            break  # the first one takes precedence
    try:
        from worker.observability.trace_export import exporting
    except ImportError:
        raise ValueError("OpenTelemetry is not installed: pip install 'aup-worker[otel]'") from None
    return exporting(report)


def _variable(name: str) -> str:
    return os.environ.get(name, "").strip().lower()
