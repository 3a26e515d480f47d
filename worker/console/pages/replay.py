"""Replay: a dry run first, then progress, with start, stop and resume."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.masking import mask_text
from worker.console.page import Page, Route, fragment, log_action, render
from worker.console.pages.dead_letters import chosen_only
from worker.console.replay_run import State
from worker.console.replays import DryRunResult, EarlierRun
from worker.console.selection import Selection, read_selection, select
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.dry_run import SUCCEEDS
from worker.operations.dead_letters.edit import parse_assignment
from worker.operations.dead_letters.replay_request import MAX_REPLAYS, ReplayTexts
from worker.operations.dead_letters.sentences import (
    dry_run_result,
    missing,
    replayed,
    unreadable_policies,
    unseen,
)

_LIVE_SECONDS: Final = 0.5
_FRESH_SECONDS: Final = 60.0
_RATE_MIN: Final = 0.1
_RATE_MAX: Final = 10_000.0
_REPLAYS_MAX: Final = 1000
_SETS_MAX: Final = 50


@dataclass(frozen=True, slots=True)
class Request:
    """A replay in the query string.

    Attributes:
        selection: Dead letters to replay.
        sets: Assignments FIELD=VALUE.
        rate: Maximum rate as text; empty for none.
        max_replays: Maximum number of replays as text.
        problems: Why fields are invalid, by name.
        is_requested: Whether the query string requests a dry run.
    """

    selection: Selection
    sets: tuple[str, ...]
    rate: str
    max_replays: str
    problems: dict[str, str]
    is_requested: bool

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Names and values of the query string."""
        pairs = self.selection.pairs or [("all", "1")]
        pairs += [("set", each) for each in self.sets]
        if self.rate:
            pairs.append(("rate", self.rate))
        if self.max_replays != str(MAX_REPLAYS):
            pairs.append(("max_replays", self.max_replays))
        return pairs

    def texts(self, operator: str) -> ReplayTexts:
        """Return the replay.

        Raises:
            UsageError: A field is invalid.
        """
        for problem in (*self.selection.problems.values(), *self.problems.values()):
            raise UsageError(problem)
        return ReplayTexts(
            ids=self.selection.ids,
            texts=self.selection.texts,
            set_=self.sets,
            rate_per_second=float(self.rate) if self.rate else None,
            max_replays=int(self.max_replays),
            operator=operator,
        )

    def command(self) -> str:
        """Return the command of the CLI that does the same."""
        options = [part for each in self.sets for part in ("--set", each)]
        options += ["--rate", self.rate] if self.rate else []
        if self.max_replays != str(MAX_REPLAYS):
            options += ["--max-replays", self.max_replays]
        return self.selection.command("replay", options=options)


def read_request(query: Iterable[tuple[str, str]]) -> Request:
    """Return the replay in a query string."""
    pairs = list(query)
    selection = chosen_only(read_selection(pairs))
    sets = tuple(
        dict.fromkeys(value.strip() for name, value in pairs if name == "set" and value.strip())
    )[:_SETS_MAX]
    fields = {name: value.strip() for name, value in pairs if name in {"rate", "max_replays"}}
    rate, max_replays = fields.get("rate", ""), fields.get("max_replays", "") or str(MAX_REPLAYS)
    problems: dict[str, str] = {}
    if rate and not _is_number(rate, _RATE_MIN, _RATE_MAX):
        problems["rate"] = f"rate {rate}: expected a number from {_RATE_MIN:g} to {_RATE_MAX:,.0f}"
    if not (max_replays.isdecimal() and _is_number(max_replays, 1, _REPLAYS_MAX)):
        problems["max_replays"] = (
            f"max_replays {max_replays}: expected a number from 1 to {_REPLAYS_MAX:,}"
        )
    for each in sets:
        try:
            parse_assignment(each)
        except UsageError as error:
            problems["set"] = str(error)
    return Request(selection, sets, rate, max_replays, problems, bool(pairs))


def _is_number(text: str, minimum: float, maximum: float) -> bool:
    try:
        return text.isascii() and minimum <= float(text) <= maximum
    except ValueError:
        return False


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the replay that runs, and the result of a dry run if the query requests one."""
    wanted = read_request(request.query.items())
    is_valid = not wanted.problems and not wanted.selection.problems
    if wanted.is_requested and is_valid and sorted(wanted.pairs) != sorted(request.query.items()):
        raise web.HTTPSeeOther(f"/replay?{urlencode(wanted.pairs)}")
    values = await _progress(context) | {"wanted": wanted, "dry_run": None, "problem": ""}
    if wanted.is_requested and not values["is_running"]:
        values |= await _dry_run(context, request, wanted)
    status = 400 if values["problem"] else 200
    return render(request, "replay.html", http_status=status, **values)


async def _dry_run(
    context: ConsoleContext, request: web.Request, wanted: Request
) -> dict[str, Any]:
    """Run the dry run that a page shows."""
    scans = context.scans
    try:
        texts = wanted.texts(context.options.operator)
        scans.look()
        if scans.snapshot.scanned_at is None:
            await scans.settle()
        if scans.error and scans.snapshot.scanned_at is None:
            raise UsageError(scans.error)
        found = await select(scans, wanted.selection)
        # Dead letters that expire first are replayed first, up to the limit.
        dry_run = await context.replays.run_dry(texts, scans.read(found))
    except AUPError as error:
        return {"problem": str(error)}
    log_action(
        request,
        "dry run",
        filter=wanted.selection.logged(),
        selected=dry_run.selected,
        succeeding=dry_run.succeeding,
    )
    return {"dry_run": dry_run, **dry_run_values(context, dry_run)}


def dry_run_values(context: ConsoleContext, dry_run: DryRunResult) -> dict[str, Any]:
    """Return the values of a template that shows the result of a dry run."""
    by_reason: dict[str, Counter[str]] = {}
    for (reason, code), count in dry_run.outcomes.most_common():
        by_reason.setdefault(reason, Counter())[code] += count
    snapshot = context.scans.snapshot
    notes = [
        unreadable_policies(dry_run.unreadable) if dry_run.unreadable else "",
        missing(dry_run.missing) if dry_run.missing else "",
        unseen(snapshot.unseen) if snapshot.unseen and not dry_run.texts.ids else "",
    ]
    return {
        "sentence": dry_run_result(dry_run.selected, dry_run.succeeding),
        "by_reason": by_reason,
        "notes": list(filter(None, notes)),
        "succeeds": SUCCEEDS,
        "scanned_at": snapshot.scanned_at,
    }


async def _progress(context: ConsoleContext) -> dict[str, Any]:
    """Return the values of the template that shows the progress of a replay."""
    run = context.replays.run
    earlier: EarlierRun | None = None
    earlier_error = ""
    if run is None or run.state is not State.RUNNING:
        try:
            earlier = await context.replays.earlier()
        except AUPError as error:
            earlier_error = str(error)
    return {
        "run": run,
        "is_running": run is not None and run.state is State.RUNNING,
        "result": "" if run is None else replayed(run.figures, run.seconds),
        "resumes_run": run is not None and earlier is not None and earlier.texts == run.texts,
        "selected_by": selected_by,
        "earlier": earlier,
        "earlier_error": earlier_error,
    }


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Stream the progress until the replay ends."""

    async def events() -> AsyncIterator[Event]:
        while True:
            values = await _progress(context)
            yield Event({"progress": fragment(request, "replay_progress.html", **values)})
            if not values["is_running"] and not _runs_elsewhere(values):
                break
            await asyncio.sleep(_LIVE_SECONDS if values["is_running"] else 4 * _LIVE_SECONDS)
        yield Event({}, "done")

    return await stream(request, events())


def _runs_elsewhere(values: dict[str, Any]) -> bool:
    return values["earlier"] is not None and values["earlier"].runs_elsewhere


async def start(context: ConsoleContext, request: web.Request) -> web.Response:
    """Start the replay whose dry run the page showed."""
    form = await request.post()
    dry_run = context.replays.dry_run(str(form.get("dry_run", "")))
    if not dry_run.ids:
        raise UsageError("no message would be sent; nothing was sent")
    selection = Selection(dry_run.texts.texts, dry_run.texts.ids).described()
    await context.replays.start(dry_run, selection)
    log_action(
        request,
        "replay started",
        filter=mask_text(selection),
        edited=[each.partition("=")[0] for each in dry_run.texts.set_],
        count=len(dry_run.ids),
        selected=dry_run.selected,
    )
    raise web.HTTPSeeOther("/replay")


def selected_by(texts: ReplayTexts) -> str:
    """Return how the dead letters of a replay were selected, for people."""
    return texts.selection or Selection(texts.texts, texts.ids).described()


async def stop(context: ConsoleContext, request: web.Request) -> web.Response:
    """Stop the replay; it can be resumed."""
    log_action(request, "replay stop requested")
    await context.replays.stop()
    raise web.HTTPSeeOther("/replay")


async def resume(context: ConsoleContext, request: web.Request) -> web.Response:
    """Resume the replay in the journal."""
    run = await context.replays.resume()
    log_action(request, "replay resumed", filter=mask_text(selected_by(run.texts)), count=run.total)
    raise web.HTTPSeeOther("/replay")


PAGE: Final = Page(
    "replay",
    "Replay",
    "/replay",
    (
        Route("GET", "/replay", show),
        Route("GET", "/replay/live", live, streams=True),
        Route("POST", "/replay/start", start, sends=True),
        Route("POST", "/replay/stop", stop, sends=True),
        Route("POST", "/replay/resume", resume, sends=True),
    ),
)
