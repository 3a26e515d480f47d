"""Whether anything is wrong, and the figures of queues and workers, live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Final

from aiohttp import web

from worker.console.concerns import concerns
from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.page import Page, Route, fragment, render
from worker.console.status_feed import Snapshot
from worker.domain.outcome import OutcomeKind

# Each is an element of the page with a template of its own, replaced when it changes.
_PARTS: Final = ("concerns", "cards", "reasons", "queues", "workers")


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the page."""
    return render(request, "overview.html", **_values(context, await context.status.current()))


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Stream the figures."""

    async def events() -> AsyncIterator[Event]:
        async for snapshot in context.status.changes():
            values = _values(context, snapshot)
            yield Event(
                {each: fragment(request, f"overview_{each}.html", **values) for each in _PARTS}
            )

    return await stream(request, events())


def _values(context: ConsoleContext, snapshot: Snapshot) -> dict[str, Any]:
    scans = context.scans
    if snapshot.error is None:
        scans.look()
    bars, width_seconds = context.timeline.bars(scans.snapshot, context.now())
    return {
        "parts": _PARTS,
        "concerns": concerns(snapshot),
        "history": snapshot.history,
        "status": snapshot.status,
        "scanned": scans.seen if scans.is_scanning else None,
        "kinds": OutcomeKind,
        "timeline": bars,
        "width_seconds": width_seconds,
    }


PAGE: Final = Page(
    "overview",
    "Overview",
    "/",
    (Route("GET", "/", show), Route("GET", "/live", live, streams=True)),
)
