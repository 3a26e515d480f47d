"""Summaries of the service at intervals and at its end, as log lines or EMF documents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog

from worker.observability.service_status import ServiceStatus
from worker.runtime.logs import LINES_DROPPED

if TYPE_CHECKING:
    from worker.observability.emf import EMF

_log: Final = structlog.get_logger()


@asynccontextmanager
async def summaries(status: ServiceStatus) -> AsyncIterator[None]:
    """Write a summary every AUP_SUMMARY_SECONDS, and a last one when the block ends."""
    emf = _embedded_metrics(status)
    task = asyncio.create_task(_write_summaries(status, emf))
    try:
        yield
    finally:
        task.cancel()
        _log.info("stopped", **_summary(status))
        if emf is not None:
            emf.write("stopped")
        await asyncio.gather(task, return_exceptions=True)


async def _write_summaries(status: ServiceStatus, emf: EMF | None) -> None:
    interval_seconds = status.settings.summary_seconds
    received_before = 0
    while True:
        await asyncio.sleep(interval_seconds)
        if emf is not None:
            emf.write("summary")
            continue
        received = status.metrics.accounting.received
        rate = (received - received_before) / interval_seconds
        received_before = received
        _log.info("summary", rate_per_second=round(rate, 1), **_summary(status))


def _summary(status: ServiceStatus) -> dict[str, Any]:
    metrics = status.metrics
    return {
        **metrics.accounting.figures(),
        "in_flight": status.slots.filled,
        "p50_ms": round(1000 * metrics.settling.quantile(0.5), 1),
        "p99_ms": round(1000 * metrics.settling.quantile(0.99), 1),
        "not_ready": status.why_not_ready(),
        LINES_DROPPED: metrics.events[LINES_DROPPED],
        "calls": dict(sorted(metrics.calls.items())),
        "events": dict(sorted(metrics.events.items())),
    }


def _embedded_metrics(status: ServiceStatus) -> EMF | None:
    """Return the writer of EMF documents, or None if it is off."""
    if not status.settings.emf:
        return None
    # Imported only if it is used: the service starts faster without it.
    from worker.observability.emf import EMF  # noqa: PLC0415

    return EMF(status)


def stopped_immediately(status: ServiceStatus) -> str:
    """Return what a stop without a drain means for the messages in flight."""
    held = status.metrics.accounting.held
    if not held:
        return "stopped immediately: no messages were in flight"
    return (
        f"stopped immediately: {held} messages in flight become visible again within "
        f"{status.settings.visibility_timeout_seconds} s"
    )
