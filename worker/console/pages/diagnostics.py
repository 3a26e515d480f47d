"""The checks of `doctor` with their remedies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Final

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.page import Page, Route, log_action, render
from worker.operations.doctor.result import CheckStatus

# Checks of a distant region or of an absent endpoint take longer.
_FIRST_SECONDS: Final = 0.3
_ALIVE_SECONDS: Final = 5.0
_KINDS: Final = {
    CheckStatus.PASS: "ok",
    CheckStatus.WARN: "warn",
    CheckStatus.FAIL: "fail",
    CheckStatus.UNKNOWN: "unknown",
}


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the results of the latest checks; run them if there are none."""
    checks = context.checks
    run = checks.latest
    if run is None and not checks.error:
        run = await checks.run(_FIRST_SECONDS)
    groups = {} if run is None else run.groups
    counts = Counter(each.status for results in groups.values() for each in results)
    return render(
        request,
        "diagnostics.html",
        run=run,
        is_running=checks.is_running,
        error=checks.error,
        counts={status: counts[status] for status in CheckStatus if counts[status]},
        total=counts.total(),
        kinds=_KINDS,
        failed=counts[CheckStatus.FAIL],
    )


async def run_again(context: ConsoleContext, request: web.Request) -> web.Response:
    """Run the checks, and show their results."""
    log_action(request, "checks run")
    await context.checks.run(_FIRST_SECONDS)
    raise web.HTTPSeeOther("/diagnostics")


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Reload the page at the end of a run."""

    async def events() -> AsyncIterator[Event]:
        while context.checks.is_running:
            yield Event({})
            await context.checks.run(_ALIVE_SECONDS)
        yield Event({}, "done")

    return await stream(request, events())


PAGE: Final = Page(
    "diagnostics",
    "Diagnostics",
    "/diagnostics",
    (
        Route("GET", "/diagnostics", show),
        Route("POST", "/diagnostics", run_again),
        Route("GET", "/diagnostics/live", live, streams=True),
    ),
)
