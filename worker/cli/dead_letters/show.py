"""Verbs that show dead letters: list and show."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from heapq import nsmallest
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from worker.cli import screen
from worker.cli.dead_letters.scanning import expiry, note_unseen, scan_with_progress
from worker.cli.filters import FilterOptions
from worker.cli.options import AsJSON, expand_options
from worker.cli.running import run_async
from worker.cli.tables import Column, Kind
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE, edit_fields
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.body_view import BodyLine, format_body
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.sentences import no_matches, not_found
from worker.runtime.clock import utc_now
from worker.runtime.quantities import duration

_COLUMNS: Final = (
    Column("id"),
    Column("reason", 1),
    Column("expires in", 2, right=True),
    Column("age", 4, right=True),
    Column("user", 3, Kind.TEXT),
    Column("policy", 6, Kind.TEXT),
    Column("version", 5, Kind.TEXT),
    Column("receives", 8, right=True),
    Column("replays", 7, right=True),
    Column("detail", kind=Kind.BELOW),
)
_ERROR_STYLE: Final = "bold red"
_INDENT_MAX: Final = 40


class _Summaries:
    """Counts of all matching dead letters, and the ones to show: those that expire first.

    Args:
        limit: Maximum number to show; None for all.
    """

    def __init__(self, limit: int | None) -> None:
        self.counts: Counter[str] = Counter()
        self.first_expiry: dict[str, datetime] = {}
        self._limit = limit
        self._kept: list[DeadLetter] = []

    def add(self, dead_letter: DeadLetter) -> None:
        """Count a dead letter, and keep it if it may be shown."""
        self.counts[dead_letter.reason] += 1
        first = self.first_expiry.setdefault(dead_letter.reason, dead_letter.expires_at)
        self.first_expiry[dead_letter.reason] = min(first, dead_letter.expires_at)
        self._kept.append(dead_letter.without_content())
        if self._limit is not None and len(self._kept) > 2 * self._limit:
            self._kept = self.shown()

    def shown(self) -> list[DeadLetter]:
        """Return the dead letters to show, soonest to expire first."""
        count = len(self._kept) if self._limit is None else self._limit
        return nsmallest(count, self._kept, key=lambda each: (each.expires_at, each.message_id))


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(FilterOptions):
    """Filter options of `list`, whose limit applies to what is shown, not to what is counted."""

    limit: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            help="Maximum number shown (default on a terminal: what fits). All are counted.",
        ),
    ] = None


@expand_options
def list_(options: ListOptions, as_json: AsJSON = False) -> None:
    """List dead letters, soonest to expire first.

    The dead letters stay in the queue. Counts by reason come first and include every match, even
    those not shown. Exit codes: 0 success, 1 not all dead letters were seen.

    Example: aup-worker dead-letters list --reason unknown_policy --since 3d
    """
    selected = replace(options.dead_letter_filter(), limit=None)
    out = screen.stdout()
    fit = sys.stdout.isatty() and not as_json and options.limit is None
    found = _Summaries(out.height if fit else options.limit)
    summary = run_async(scan_with_progress("scanning", selected, found.add))
    dead_letters, at = found.shown(), utc_now()
    if as_json:
        report = {
            "counts": dict(found.counts.most_common()),
            "seen": summary.seen,
            "approximate_number": summary.known,
            "not_seen": summary.unseen,
            "dead_letters": [dead_letter.summary(at) for dead_letter in dead_letters],
        }
        screen.print_json(report)
    elif dead_letters:
        _print_found(out, found, at, fit=fit)
    else:
        out.print(no_matches(summary.seen))
    if note_unseen(summary.unseen):
        raise typer.Exit(1)


def _print_found(out: Console, found: _Summaries, at: datetime, *, fit: bool) -> None:
    """Print counts and dead letters; if `fit`, only as many as fit on the screen."""
    counts = (
        (reason, f"{count:,}", expiry(found.first_expiry[reason], at))
        for reason, count in found.counts.most_common()
    )
    table = screen.table(("reason", "count", "first expires in"), counts, right={1, 2})
    matching = found.counts.total()
    table.add_row(Text("total"), Text(f"{matching:,}"), style="bold")
    out.print(table)
    out.print()
    lines = screen.lines_left(out, len(found.counts)) if fit else sys.maxsize
    rows = (_row(dead_letter, at) for dead_letter in found.shown())
    shown = screen.print_rows(out, screen.table(_COLUMNS, rows), lines)
    if shown < matching:
        screen.note(f"{shown:,} shown of {matching:,}; use --limit to show more")


def _row(dead_letter: DeadLetter, at: datetime) -> tuple[str | Text, ...]:
    return (
        dead_letter.message_id,
        dead_letter.reason,
        expiry(dead_letter.expires_at, at),
        duration((at - dead_letter.sent_at).total_seconds()),
        dead_letter.user_id or "",
        dead_letter.policy_id or "",
        dead_letter.version or "",
        str(dead_letter.receive_count),
        str(dead_letter.history.count),
        dead_letter.detail,
    )


def show(
    message_id: Annotated[
        str,
        typer.Argument(
            metavar="ID", help="Message id of the dead letter or of the original message."
        ),
    ],
    as_json: AsJSON = False,
) -> None:
    """Show one dead letter in full, with its errors marked.

    The dead letter stays in the queue.

    Example: aup-worker dead-letters show 5fea7756-0ea4-451a-a703-a558b933e274
    """
    dead_letter = run_async(_find(message_id))
    history = dead_letter.history
    if as_json:
        screen.print_json(
            {
                **dead_letter.summary(utc_now()),
                "last_replayed_at": history.at or None,
                "edits": [edit_fields(edit) for edit in history.edits],
                "attributes": {name: value for name, _, value in _attributes(dead_letter)},
                "trace_header": dead_letter.message.trace_header,
                "body": dead_letter.message.body,
            }
        )
        return
    out = screen.stdout()
    _print_facts(out, dead_letter)
    for part in format_body(dead_letter):
        out.print()
        out.print(screen.plain(f"text in {part.path}" if part.path else "body", "bold"))
        for line in part.lines:
            _print_line(out, line)


def _attributes(dead_letter: DeadLetter) -> Iterator[tuple[str, str, Any]]:
    for name, value in dead_letter.message.attributes.items():
        yield name, value["DataType"], value.get("StringValue", value.get("BinaryValue"))


def _print_facts(out: Console, dead_letter: DeadLetter) -> None:
    at, history, received = utc_now(), dead_letter.history, dead_letter.receive_count
    facts = {
        "id": dead_letter.message_id,
        "original id": dead_letter.original_message_id,
        "reason": dead_letter.reason,
        "detail": dead_letter.detail,
        "user": dead_letter.user_id or "",
        "policy": " ".join(filter(None, (dead_letter.policy_id, dead_letter.version))),
        "sent": f"{dead_letter.sent_at.isoformat(timespec='seconds')}, "
        f"{duration((at - dead_letter.sent_at).total_seconds())} ago",
        "received": f"{_times(received)} before dead-lettering" if received else "",
        "replayed": _times(history.count) + (f", last {history.at}" if history.at else ""),
    }
    rows: list[tuple[str, str | Text]] = [(name, text) for name, text in facts.items() if text]
    rows.append(("expires in", expiry(dead_letter.expires_at, at)))
    rows += [
        ("edited", f"{edit.at} by {edit.by}: {', '.join(edit.changed)}") for edit in history.edits
    ]
    for name, kind, value in _attributes(dead_letter):
        if name not in {ATTRIBUTE, REPLAYS_ATTRIBUTE}:  # shown above
            text = value.hex() if isinstance(value, bytes) else value
            rows.append(("attribute", f"{name} ({kind}): {text}"))
    if dead_letter.message.trace_header:
        rows.append(("trace header", dead_letter.message.trace_header))
    out.print(screen.facts(rows))


def _times(count: int) -> str:
    return {0: "never", 1: "once"}.get(count, f"{count} times")


def _print_line(out: Console, line: BodyLine) -> None:
    text = screen.plain(line.text)
    if not line.note:
        out.print(text, soft_wrap=True)
        return
    note = screen.plain(line.note, _ERROR_STYLE)
    if line.column is None:
        _print_marked(out, text, note)
    else:
        _print_with_caret(out, line.text, line.column, note)


def _print_marked(out: Console, text: Text, note: Text) -> None:
    """Print an invalid line with its note beside it, or below it if it does not fit."""
    text.stylize(_ERROR_STYLE)
    annotated = text + Text("   <-- ", style=_ERROR_STYLE) + note
    if annotated.cell_len <= out.width:
        out.print(annotated)
        return
    out.print(text, soft_wrap=True)
    indent = len(text.plain) - len(text.plain.lstrip())
    out.print(Padding(Text("^ ", style=_ERROR_STYLE) + note, (0, 0, 0, min(indent, _INDENT_MAX))))


def _print_with_caret(out: Console, line: str, column: int, note: Text) -> None:
    """Print a line with a caret below the column of the error."""
    text = screen.plain(line)
    too_long = text.cell_len > out.width
    if too_long:
        out.print(text, soft_wrap=True)
    before, after = screen.plain(line[:column]), screen.plain(line[column:])
    # Show only a part of a long line, so that the caret is below its column.
    cut = too_long and before.cell_len > out.width // 2
    shown = (Text("…") + before[-(out.width // 2) :] if cut else before).copy()
    caret = shown.cell_len
    shown = shown + after
    shown.expand_tabs(1)
    shown.truncate(out.width, overflow="ellipsis")
    out.print(shown)
    out.print(Text(" " * caret + "^ ", style=_ERROR_STYLE) + note, soft_wrap=True)


async def _find(message_id: str) -> DeadLetter:
    found: list[DeadLetter] = []
    selected = DeadLetterFilter(ids=[message_id], limit=1)
    summary = await scan_with_progress("scanning", selected, found.append)
    if not found and summary.unseen:
        raise AUPError(not_found(message_id, summary.unseen))
    if not found:
        raise UsageError(f"{not_found(message_id, 0)}: see `aup-worker dead-letters list`")
    return found[0]
