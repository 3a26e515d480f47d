"""Policy versions: texts by language, differences, and acceptances by day on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from worker.console.bars import Bars
from worker.console.charts import ACCEPTED
from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.page import Page, Route, fragment, log_action, render
from worker.domain.policy import Policy, state
from worker.errors import AUPError, AWSDeniedError, AWSError, UsageError
from worker.operations.evidence.coverage import (
    DAYS_SHOWN_MAX,
    READ_UNITS_PER_SECOND,
    Estimate,
    by_period,
    estimate,
)
from worker.operations.names import check_policy
from worker.operations.policies import PublishedText, differences, version_texts
from worker.repository import TableSize

_REFRESH_SECONDS: Final = 1.0
# Applications state `accepted_at`, which may be wrong by centuries.
_BARS_MAX_DAYS: Final = 3650
_KINDS: Final = {"+": "added", "-": "removed", "@": "place"}


@dataclass(frozen=True, slots=True)
class Address:
    """Which version a page shows, and how.

    Attributes:
        policy: Policy id.
        version: Policy version.
        locale: Language of the text; empty for the default text.
        compare: Version to compare with; empty for none.
    """

    policy: str
    version: str
    locale: str = ""
    compare: str = ""

    def path(self, page: str = "version", **changes: str) -> str:
        """Return the path of this version's page with changes; empty values are left out."""
        stated = {
            "policy": self.policy,
            "version": self.version,
            "locale": self.locale,
            "compare": self.compare,
            **changes,
        }
        return f"/policies/{page}?{urlencode({k: v for k, v in stated.items() if v})}"


@dataclass(frozen=True, slots=True)
class Listed:
    """A version in the list.

    Attributes:
        policy: The version.
        state: Its state in words.
    """

    policy: Policy
    state: str

    @property
    def kind(self) -> str:
        """Class of the state."""
        return "ok" if self.state == "in force" else "info"

    @property
    def path(self) -> str:
        """Path of its page."""
        return Address(self.policy.policy_id, self.policy.version).path()


async def list_(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return all versions, the latest of each policy first.

    A role that may not scan the table, such as the auditor's, must state the policy.
    """
    policy_id = str(request.query.get("policy", "")).strip() or None
    problem, denied, policies = "", "", list[Policy]()
    try:
        check_policy(policy_id, options=("policy", "version"))
        policies = await context.repository.policies(policy_id)
    except UsageError as error:
        problem = str(error).removeprefix("policy: ")
    except AWSDeniedError as error:
        denied = str(error)
    groups: dict[str, list[Listed]] = {}
    latest_first = sorted(
        policies, key=lambda each: (each.effective_at, each.version), reverse=True
    )
    for each in sorted(latest_first, key=lambda each: each.policy_id):
        listed = Listed(each, state(each, policies, context.now()))
        groups.setdefault(each.policy_id, []).append(listed)
    return render(
        request,
        "policies.html",
        groups=groups,
        policy_id=policy_id,
        problem=problem,
        denied=denied,
    )


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return a version with its texts or a difference, and its acceptances by day."""
    address = _address(request.query)
    found, texts = await version_texts(
        context.repository, address.policy, address.version, address.locale or None
    )
    versions = await _versions(context, address.policy)
    return render(
        request,
        "policy.html",
        address=address,
        listed=Listed(found, state(found, versions, context.now())),
        texts=texts,
        text=texts[0],
        others=[each.version for each in versions or () if each.version != address.version],
        **await _difference(context, address, texts[0]),
        **_coverage(context, address),
    )


async def _versions(context: ConsoleContext, policy_id: str) -> list[Policy] | None:
    """Return all versions of a policy; None if the role may read only single ones."""
    try:
        return await context.repository.policies(policy_id)
    except AWSDeniedError:
        return None


async def _difference(
    context: ConsoleContext, address: Address, text: PublishedText
) -> dict[str, Any]:
    """Return the difference from another version, or why there is none."""
    if not address.compare:
        return {"difference": None, "why_no_difference": ""}
    try:
        _, [other, *_] = await version_texts(
            context.repository, address.policy, address.compare, address.locale or None
        )
        names = tuple(f"{address.policy} {each}" for each in (address.compare, address.version))
        if other.text.sha256 == text.text.sha256:
            return {"difference": [], "why_no_difference": "The texts are equal."}
        lines = differences(other, text, (names[0], names[1]))
    except AWSError:
        raise
    except AUPError as error:
        return {"difference": [], "why_no_difference": str(error)}
    return {
        "difference": [(_KINDS.get(each[:1], ""), each) for each in lines[2:]],
        "why_no_difference": "" if lines else "The texts differ only in markup.",
    }


def _coverage(context: ConsoleContext, address: Address) -> dict[str, Any]:
    """Return the latest scan of a version, and its chart if it has ended."""
    run = context.coverage.latest(address.policy, address.version)
    running = context.coverage.running
    values: dict[str, Any] = {"run": run, "other": running if running is not run else None}
    if run is None or run.finished_at is None or not run.found.days:
        return {**values, "bars": None}
    return {**values, **_bars(run.found.days)}


def _bars(days: Mapping[date, int]) -> dict[str, Any]:
    """Return one bar for each day, or for each month of a longer time, of the last ten years."""
    last = max(days)
    first = max(min(days), last - timedelta(_BARS_MAX_DAYS))
    count = (last - first).days + 1
    months = count > DAYS_SHOWN_MAX
    # Those without acceptances too, so that the axis is to scale.
    filled = {(day := first + timedelta(number)): days.get(day, 0) for number in range(count)}
    periods = by_period(filled, months=months)
    return {
        "bars": Bars(list(periods), {ACCEPTED: list(periods.values())}),
        "months": months,
        "earlier": sum(users for day, users in days.items() if day < first),
    }


async def plan(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return what a scan would cost, before it is started."""
    address = _address(request.query)
    size, expected = await _estimate(context, address)
    return render(
        request,
        "coverage_plan.html",
        address=address,
        size=size,
        expected=expected,
        rate=READ_UNITS_PER_SECOND,
        running=context.coverage.running,
    )


async def start(context: ConsoleContext, request: web.Request) -> web.Response:
    """Start a scan; its cost was shown before."""
    address = _address(await request.post())
    size, expected = await _estimate(context, address)
    context.coverage.start(address.policy, address.version, size)
    log_action(
        request,
        "coverage scan started",
        policy=address.policy,
        version=address.version,
        read_units=expected.read_units,
    )
    raise web.HTTPSeeOther(f"{address.path()}#coverage")


async def cancel(context: ConsoleContext, request: web.Request) -> web.Response:
    """Cancel the scan that runs."""
    address = _address(await request.post())
    await context.coverage.cancel()
    log_action(request, "coverage scan cancelled", policy=address.policy, version=address.version)
    raise web.HTTPSeeOther(f"{address.path()}#coverage")


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Stream the progress of a scan; reload the page at its end."""
    address = _address(request.query)

    async def events() -> AsyncIterator[Event]:
        while (run := context.coverage.running) is not None:
            yield Event({"progress": fragment(request, "coverage_progress.html", run=run)})
            await asyncio.sleep(_REFRESH_SECONDS)
        if context.coverage.latest(address.policy, address.version) is not None:
            yield Event({}, "done")

    return await stream(request, events())


async def _estimate(context: ConsoleContext, address: Address) -> tuple[TableSize, Estimate]:
    repository = context.repository
    await version_texts(repository, address.policy, address.version, None)
    size = await repository.user_table_size()
    return size, estimate(size, READ_UNITS_PER_SECOND)


def _address(stated: Mapping[str, Any]) -> Address:
    """Return the version that an address or a form states.

    Raises:
        UsageError: It states none, or an invalid one.
    """
    names = ("policy", "version", "locale", "compare")
    policy, version, locale, compare = (str(stated.get(name) or "") for name in names)
    if not policy or not version:
        raise UsageError("policy and version: state both")
    check_policy(policy, version, options=("policy", "version"))
    if compare:
        check_policy(policy, compare, options=("policy", "compare"))
    return Address(policy, version, locale, compare)


PAGE: Final = Page(
    "policies",
    "Policies",
    "/policies",
    (
        Route("GET", "/policies", list_),
        Route("GET", "/policies/version", show),
        Route("GET", "/policies/coverage", plan),
        Route("POST", "/policies/coverage", start),
        Route("POST", "/policies/coverage/cancel", cancel),
        Route("GET", "/policies/live", live, streams=True),
    ),
)
