"""The checks of `doctor` with their remedies."""

from __future__ import annotations

from collections import Counter
from typing import Final

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.page import Page, Route, log_action, render
from worker.operations.doctor.result import CheckStatus

_KINDS: Final = {
    CheckStatus.PASS: "ok",
    CheckStatus.WARN: "warn",
    CheckStatus.FAIL: "fail",
    CheckStatus.UNKNOWN: "unknown",
}


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the results of the latest checks; run them if there are none."""
    run = context.checks.latest or await context.checks.run()
    counts = Counter(each.status for results in run.groups.values() for each in results)
    return render(
        request,
        "diagnostics.html",
        run=run,
        counts={status: counts[status] for status in CheckStatus if counts[status]},
        total=counts.total(),
        kinds=_KINDS,
        failed=counts[CheckStatus.FAIL],
    )


async def run_again(context: ConsoleContext, request: web.Request) -> web.Response:
    """Run the checks, and show their results."""
    log_action(request, "checks run")
    await context.checks.run()
    raise web.HTTPSeeOther("/diagnostics")


PAGE: Final = Page(
    "diagnostics",
    "Diagnostics",
    "/diagnostics",
    (Route("GET", "/diagnostics", show), Route("POST", "/diagnostics", run_again)),
)
