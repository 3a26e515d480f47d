"""What runs beside the service from its start to its end, each only where it is asked for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.observability.service_status import ServiceStatus
from worker.runtime import logs

if TYPE_CHECKING:
    from worker.observability.emf import EMF
    from worker.observability.tracing import OpenTelemetry

_log: Final = structlog.get_logger()

# What is not asked for is not imported: the start takes no longer for it.
# ruff: noqa: PLC0415


@asynccontextmanager
async def background_tasks(view: ServiceStatus) -> AsyncIterator[None]:
    """Show the service to those who operate it as long as the block lasts.

    Endpoints by the settings, systemd and ECS by what they put into the environment. None of them
    ends the service when it fails, except that endpoints must find their port at the start.

    Raises:
        SettingsError: the endpoints cannot listen.
    """
    async with AsyncExitStack() as stack:
        if view.settings.health_port is not None:
            from worker.observability.endpoints import serving
            from worker.observability.prometheus import exposition

            await stack.enter_async_context(serving(view, exposition(view)))
        await _introduce(view)
        await stack.enter_async_context(_beside(_notifying(view)))
        await stack.enter_async_context(_beside(_in_task(view)))
        yield


@asynccontextmanager
async def _beside(companion: Coroutine[Any, Any, None] | None) -> AsyncIterator[None]:
    if companion is None:
        yield
        return
    task = asyncio.create_task(_sheltered(companion))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _sheltered(companion: Coroutine[Any, Any, None]) -> None:
    try:
        await companion
    except Exception:  # noqa: BLE001 - what only shows the service must not end it
        _log.exception("a companion of the service failed")


def _notifying(view: ServiceStatus) -> Coroutine[Any, Any, None] | None:
    if not os.environ.get("NOTIFY_SOCKET"):
        return None
    from worker.observability.systemd import Systemd

    systemd = Systemd.from_environment(view)
    return None if systemd is None else systemd.run()


def _in_task(view: ServiceStatus) -> Coroutine[Any, Any, None] | None:
    agent_uri = os.environ.get("ECS_AGENT_URI")
    if not view.settings.ecs_protection:
        return None
    if not agent_uri:
        _log.warning("AUP_ECS_PROTECTION is set, but ECS_AGENT_URI is not: this is no ECS task")
        return None
    from worker.observability.ecs import ScaleInProtection

    return ScaleInProtection(agent_uri, view).run()


async def _introduce(view: ServiceStatus) -> None:
    """Name the ECS task in every line of the log from now on; nothing elsewhere."""
    metadata_uri = os.environ.get("ECS_CONTAINER_METADATA_URI_V4")
    if metadata_uri:
        from worker.observability.ecs import identity

        view.identity = await identity(metadata_uri)
        logs.bind(view.identity)


@asynccontextmanager
async def traced(tell: Callable[[str], None]) -> AsyncIterator[OpenTelemetry | None]:
    """Give what follows messages, where OpenTelemetry's own variables ask for it.

    What cannot be had of it is told, and all goes on without.

    Args:
        tell: told in one line why there are no traces.
    """
    async with AsyncExitStack() as stack:
        tracing = None
        if _traces_wanted(os.environ):
            try:
                opened = _way_to_trace(os.environ)
                tracing = await stack.enter_async_context(opened(tell))
            except ValueError as error:
                tell(f"{error}; it goes on without traces")
        yield tracing


def _way_to_trace(
    environment: Mapping[str, str],
) -> Callable[[Callable[[str], None]], AbstractAsyncContextManager[OpenTelemetry]]:
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter not in {"", "otlp"}:
        raise ValueError(f"OTEL_TRACES_EXPORTER={exporter}: must be otlp or none")
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = environment.get(name, "").strip().lower()
        if protocol not in {"", "http/protobuf"}:
            raise ValueError(f"{name}={protocol}: must be http/protobuf")
        if protocol:
            break  # the first one wins
    try:
        from worker.observability.tracing import opened
    except ImportError:
        raise ValueError("OpenTelemetry is not installed: pip install 'aup-worker[otel]'") from None
    return opened


def _traces_wanted(environment: Mapping[str, str]) -> bool:
    """Tell whether somebody asks for traces; an exporter that is merely the default asks nobody.

    Source: OpenTelemetry specification, "Environment Variable Specification".
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = environment.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return exporter != "none" if exporter else any(map(environment.get, endpoints))


def embedded_metrics(view: ServiceStatus) -> EMF | None:
    """Give what writes summaries for CloudWatch, where that is asked for."""
    if not view.settings.emf:
        return None
    from worker.observability.emf import EMF

    return EMF(view)
