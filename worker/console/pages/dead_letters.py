"""List of dead letters: counts by reason, filters, a selection, and its export."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from aiohttp import web

from worker.console.context import ConsoleContext
from worker.console.live import Event, stream
from worker.console.page import Page, Route, fragment, log_action, render
from worker.console.pages import dead_letter
from worker.console.scans import KnownDeadLetter
from worker.console.selection import Selection, address, read_selection, select
from worker.errors import Reason
from worker.operations.dead_letters.dead_letter import UNEXPLAINED
from worker.operations.dead_letters.export_file import to_line
from worker.operations.dead_letters.sentences import no_matches, unseen

ROWS: Final = 20
_LIVE_SECONDS: Final = 1.0
_WRITE_SECONDS: Final = 30.0
_LINES_PER_WRITE: Final = 50
REASONS: Final = (*(reason.value for reason in Reason), UNEXPLAINED)


@dataclass(frozen=True, slots=True)
class ReasonRow:
    """Dead letters with one reason.

    Attributes:
        name: Reason code.
        count: Number that matches all other fields of the filter.
        expires_at: When the first of them expires.
        chosen: Whether the filter names the reason.
        query: Query string that shows this reason only, or all reasons if it is the one chosen.
    """

    name: str
    count: int
    expires_at: datetime | None
    chosen: bool
    query: str


@dataclass(frozen=True, slots=True)
class Pages:
    """Pages of a list.

    Attributes:
        number: Number of this page, from 1.
        count: Number of pages.
        first: Number of its first row, from 1.
        last: Number of its last row.
    """

    number: int
    count: int
    first: int
    last: int


async def show(context: ConsoleContext, request: web.Request) -> web.Response:
    """Return the list of the dead letters that match the filter."""
    selection = read_selection(request.query.items())
    given = [each for each in request.query.items() if each[0] != "page"]
    if not selection.problems and sorted(given) != sorted(selection.pairs):
        # The form sends its empty fields, too.
        raise web.HTTPSeeOther(address("/dead-letters", selection))
    context.scans.look()
    values = _state(context) | {
        "selection": selection,
        "reasons": [],
        "rows": [],
        "matching": 0,
        "pages": Pages(1, 1, 0, 0),
        "known_reasons": REASONS,
        "number": context.scans.snapshot.number,
    }
    if not selection.problems:
        values |= await _found(context, selection, request.query.get("page", "1"))
    status = 400 if selection.problems else 200
    return render(request, "dead_letters.html", http_status=status, **values)


async def _found(context: ConsoleContext, selection: Selection, page: str) -> dict[str, Any]:
    scans = context.scans
    counted = await select(scans, selection.for_counts())
    chosen = frozenset(selection.texts.reason or ())
    found = await select(scans, selection)
    pages = _pages(len(found), page)
    total = len(scans.snapshot.dead_letters)
    return {
        "reasons": _reason_rows(counted, selection, chosen),
        "rows": [each.summary for each in found[pages.first - 1 : pages.last]] if found else [],
        "matching": len(found),
        "pages": pages,
        "nothing": no_matches(total),
    }


def _pages(rows: int, text: str) -> Pages:
    count = max(1, -(-rows // ROWS))
    wanted = int(text) if text.isascii() and text.isdecimal() and len(text) < len("1000000") else 1
    number = min(max(1, wanted), count)
    return Pages(number, count, (number - 1) * ROWS + 1, min(number * ROWS, rows))


def _reason_rows(
    found: Sequence[KnownDeadLetter], selection: Selection, chosen: frozenset[str]
) -> list[ReasonRow]:
    """Return the counts by reason, the most frequent first."""
    counts = Counter(each.summary.reason for each in found)
    first: dict[str, datetime] = {}
    for each in found:  # sorted by expiry
        first.setdefault(each.summary.reason, each.summary.expires_at)
    counts.update(dict.fromkeys(chosen, 0))
    return [
        ReasonRow(
            name,
            count,
            first.get(name),
            name in chosen,
            selection.with_reasons(() if chosen == {name} else (name,)).query,
        )
        for name, count in counts.most_common()
    ]


def _state(context: ConsoleContext) -> dict[str, Any]:
    """Return the values of the line about the scan."""
    scans = context.scans
    snapshot = scans.snapshot
    return {
        "snapshot": snapshot,
        "is_scanning": scans.is_scanning,
        "seen": scans.seen,
        "error": scans.error,
        "depth": 0 if scans.state is None else scans.state.depth,
        "unseen": unseen(snapshot.unseen) if snapshot.unseen else "",
    }


async def live(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Stream the state of the scan and the number of new dead letters."""
    selection = read_selection(request.query.items())
    text = request.query.get("seen", "0")
    shown = int(text) if text.isascii() and text.isdecimal() and len(text) < ROWS else 0

    async def events() -> AsyncIterator[Event]:
        counted = shown
        while True:
            context.scans.look()
            snapshot = context.scans.snapshot
            yield Event({"scan-state": fragment(request, "scan_state.html", **_state(context))})
            has_failed = bool(context.scans.error) and "failed" not in request.query
            if not shown and (snapshot.scanned_at is not None or has_failed):
                yield Event({}, "done")
                return
            if snapshot.number != counted and not selection.problems:
                counted = snapshot.number
                found = await select(context.scans, selection)
                count = sum(each.first_seen > shown for each in found)
                yield Event({"count": count}, "news")
            await asyncio.sleep(_LIVE_SECONDS)

    return await stream(request, events())


async def scan(context: ConsoleContext, request: web.Request) -> web.Response:
    """Scan the queue again now."""
    selection = read_selection((await request.post()).items())  # type: ignore[arg-type] # no files
    log_action(request, "dead letters scanned", filter=selection.logged())
    context.scans.look(again=True)
    raise web.HTTPSeeOther(address("/dead-letters", selection))


async def export(context: ConsoleContext, request: web.Request) -> web.StreamResponse:
    """Send the selected dead letters, complete, as a JSON Lines file."""
    selection = read_selection((await request.post()).items())  # type: ignore[arg-type] # no files
    found = await select(context.scans, chosen_only(selection))
    name = f"dead-letters-{context.now():%Y%m%dT%H%M%SZ}.jsonl"
    log_action(request, "dead letters exported", filter=selection.logged(), count=len(found))
    response = web.StreamResponse(
        headers={
            "Content-Type": "application/jsonl",
            "Content-Disposition": f'attachment; filename="{name}"',
        }
    )
    await response.prepare(request)
    lines: list[str] = []
    # A client that does not read must not keep dead letters hidden.
    async with aclosing(context.scans.read(found)) as dead_letters:
        async for each in dead_letters:
            lines.append(f"{to_line(each)}\n")
            if len(lines) == _LINES_PER_WRITE:
                await _write(response, lines)
    await _write(response, lines)
    return response


async def _write(response: web.StreamResponse, lines: list[str]) -> None:
    """Write lines, and forget them."""
    async with asyncio.timeout(_WRITE_SECONDS):
        await response.write("".join(lines).encode())
    lines.clear()


def chosen_only(selection: Selection) -> Selection:
    """Return the selection of the chosen rows, whatever the filter; of all if none is chosen."""
    return Selection(ids=selection.ids) if selection.ids else selection


PAGE: Final = Page(
    "dead-letters",
    "Dead letters",
    "/dead-letters",
    (
        Route("GET", "/dead-letters", show),
        Route("GET", "/dead-letters/live", live, streams=True),
        Route("POST", "/dead-letters/scan", scan),
        Route("POST", "/dead-letters/export", export, streams=True),
        *dead_letter.ROUTES,
    ),
)
