"""Verb that shows one dead letter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from worker.cli import screen
from worker.cli.dead_letters.scanning import expiry, scan_with_progress
from worker.cli.options import AsJSON
from worker.cli.running import run_async
from worker.domain.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.body_view import BodyLine, format_body
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.runtime.clock import utc_now

_ERROR_STYLE: Final = "bold red"
_INDENT_MAX: Final = 40


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
                "edits": [asdict(edit) for edit in history.edits],
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
        f"{screen.duration((at - dead_letter.sent_at).total_seconds())} ago",
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
    out.print(screen.table(("", ""), rows))


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
        raise AUPError(
            f"dead letter {message_id} not found, but {screen.counted(summary.unseen)} not seen: "
            "in flight in another scan or replay; run this again later"
        )
    if not found:
        raise UsageError(f"dead letter {message_id} not found: see `aup-worker dead-letters list`")
    return found[0]
