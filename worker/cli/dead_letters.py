"""The verbs for what is dead: list, show, export, purge."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from heapq import nsmallest
from pathlib import Path
from typing import IO, Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from worker.cli import screen
from worker.cli.choosing import (
    Grep,
    Limit,
    Policies,
    Reasons,
    Since,
    Until,
    Users,
    Versions,
    choice,
)
from worker.cli.running import run_async
from worker.dead_letter import ATTRIBUTE, REPLAYS_ATTRIBUTE
from worker.dead_letters.body_view import BodyLine, BodyPart, lay_out
from worker.dead_letters.letter_file import new_file, to_line
from worker.dead_letters.purge import PurgeFigures
from worker.dead_letters.purge import purge as delete
from worker.dead_letters.walk import Choice, DeadLetter, walk
from worker.errors import AUPError, UsageError
from worker.queue import QueueState, open_queues
from worker.settings import load

app = typer.Typer(
    no_args_is_help=True, help="Look at what is dead and why, keep it in files, delete it."
)

AsJSON = Annotated[bool, typer.Option("--json", help="JSON on stdout.")]
_SHOWN_ON_TERMINAL: Final = 50
_TABLE_MIN_COLUMNS: Final = 150
_ID_COLUMNS: Final = 36
_SOON_SECONDS: Final = 86_400
_WRONG: Final = "bold red"


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class _Sight:
    """What a walk saw.

    Attributes:
        seen: dead letters handed out.
        known: how many there were by SQS's own approximate count.
    """

    seen: int = 0
    known: int = 0


async def _look(description: str, take: Callable[[DeadLetter], bool]) -> _Sight:
    """Go through the dead letters; `take` says whether to go on."""
    settings = load()
    sight = _Sight()
    with screen.progress(description) as bar:
        async with open_queues(settings) as (_, queue):
            sight.known = _depth(await queue.state())
            task = bar.add_task(description, total=sight.known, rate="")
            walking = walk(
                queue,
                now=_now,
                look_seconds=settings.look_seconds,
                polls=settings.poll_concurrency,
            )
            async with aclosing(walking) as letters:
                async for letter in letters:
                    sight.seen += 1
                    bar.update(task, completed=sight.seen)
                    if not take(letter):
                        return sight
    if sight.seen < sight.known:
        screen.note(
            f"saw {sight.seen} of about {sight.known}: the others are held elsewhere for now, "
            "or more than SQS hands out at once (120,000) or within AUP_LOOK_SECONDS"
        )
    return sight


def _depth(state: QueueState) -> int:
    return state.visible + state.in_flight + state.delayed


class _Summaries:
    """Counts over all that match, and those to show: whatever expires first."""

    def __init__(self, chosen: Choice, most: int | None) -> None:
        self.counts: Counter[str] = Counter()
        self.first_expiry: dict[str, datetime] = {}
        self._chosen = chosen
        self._most = most
        self._kept: list[DeadLetter] = []

    def take(self, letter: DeadLetter) -> bool:
        """Note a letter; go on."""
        if self._chosen.matches(letter):
            self.counts[letter.reason] += 1
            first = self.first_expiry.setdefault(letter.reason, letter.expires_at)
            self.first_expiry[letter.reason] = min(first, letter.expires_at)
            # No body: a large queue must not fill the memory.
            bare = replace(letter.delivery, body="", attributes={})
            self._kept.append(replace(letter, delivery=bare))
            if self._most is not None and len(self._kept) > 2 * self._most:
                self._kept = self.shown()
        return True

    def shown(self) -> list[DeadLetter]:
        """Give those to show, the first to expire first."""
        most = len(self._kept) if self._most is None else self._most
        return nsmallest(most, self._kept, key=lambda each: (each.expires_at, each.message_id))


@app.command("list")
def list_(  # noqa: PLR0913, PLR0917 - one parameter an option
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            help="How many at most are shown; 50 on a terminal. All are counted.",
        ),
    ] = None,
    as_json: AsJSON = False,
) -> None:
    """List dead letters, the first to expire first; nothing is taken.

    Counts by reason come first and are over all that match, however few are shown.

    Example: aup-worker dead-letters list --reason unknown_policy --since 3d
    """
    chosen = choice(
        reasons=reason,
        users=user,
        policies=policy,
        versions=version,
        since=since,
        until=until,
        grep=grep,
    )
    if limit is None and not as_json and sys.stdout.isatty():
        limit = _SHOWN_ON_TERMINAL
    found = _Summaries(chosen, limit)
    sight = run_async(_look("looking", found.take))
    letters, now = found.shown(), _now()
    if as_json:
        report = {
            "counts": dict(found.counts.most_common()),
            "seen": sight.seen,
            "approximate_number": sight.known,
            "dead_letters": [letter.summary(now) for letter in letters],
        }
        screen.print_json(report)
    elif letters:
        _print_counts(found, now)
        _print_letters(letters, now)
        matching = found.counts.total()
        if len(letters) < matching:
            screen.note(f"{len(letters)} shown of {matching}: --limit shows more, filters less")
    else:
        screen.stdout().print(f"no dead letters{' match' if sight.seen else ''}")


def _print_counts(found: _Summaries, now: datetime) -> None:
    table = screen.table("reason", "count", "first expires in")
    for reason, count in found.counts.most_common():
        first = found.first_expiry[reason]
        table.add_row(screen.plain(reason), str(count), _expiry((first - now).total_seconds()))
    table.add_row("in all", str(found.counts.total()), "", style="bold")
    out = screen.stdout()
    out.print(table)
    out.print()


def _expiry(seconds: float) -> Text:
    return Text(screen.duration(seconds), style="bold red" if seconds < _SOON_SECONDS else "")


def _print_letters(letters: list[DeadLetter], now: datetime) -> None:
    out = screen.stdout()
    if out.width >= _TABLE_MIN_COLUMNS:
        table = screen.table(*_COLUMNS)
        table.columns[0].no_wrap = True
        for letter in letters:
            table.add_row(*_cells(letter, now))
        out.print(table)
        return
    _print_narrow(out, [_cells(letter, now) for letter in letters])


def _print_narrow(out: Console, rows: list[list[Text]]) -> None:
    """Give each letter two lines: ten columns find no room."""
    names = [Text(name, style="bold") for name in _COLUMNS]
    widths = [max(row[index].cell_len for row in (names, *rows)) for index in _FIRST_LINE]
    for row in (names, *rows):
        cells = [row[index].copy() for index in _FIRST_LINE]
        for cell, width in zip(cells, widths, strict=True):
            cell.truncate(min(width, _ID_COLUMNS), pad=True)
        out.print(Text("  ").join(cells), no_wrap=True, overflow="ellipsis")
        if row is not names:
            about = Text("  ", style="dim") + Text("  ").join(
                row[index] for index in _SECOND_LINE if row[index]
            )
            out.print(about, no_wrap=True, overflow="ellipsis")


_COLUMNS: Final = (
    "id", "reason", "detail", "user", "policy", "version", "age", "expires in", "receives",
    "replays",
)  # fmt: skip
_FIRST_LINE: Final = (0, 1, 6, 7, 8, 9)
_SECOND_LINE: Final = (3, 4, 5, 2)


def _cells(letter: DeadLetter, now: datetime) -> list[Text]:
    texts = (
        letter.message_id,
        letter.reason,
        letter.detail,
        letter.user_id or "",
        letter.policy_id or "",
        letter.version or "",
        screen.duration((now - letter.sent_at).total_seconds()),
    )
    return [
        *map(screen.plain, texts),
        _expiry((letter.expires_at - now).total_seconds()),
        Text(str(letter.receive_count)),
        Text(str(letter.history.count)),
    ]


@app.command()
def show(
    message_id: Annotated[str, typer.Argument(metavar="ID", help="Its id, or its original's.")],
    as_json: AsJSON = False,
) -> None:
    """Show one dead letter whole, what is wrong marked.

    Nothing is taken.

    Example: aup-worker dead-letters show 5fea7756-0ea4-451a-a703-a558b933e274
    """
    letter = run_async(_find(message_id))
    history = letter.history
    if as_json:
        screen.print_json(
            {
                **letter.summary(_now()),
                "last_replayed_at": history.at or None,
                "edits": [asdict(edit) for edit in history.edits],
                "attributes": {name: value for name, _, value in _attributes(letter)},
                "body": letter.delivery.body,
            }
        )
        return
    out = screen.stdout()
    _print_facts(out, letter)
    for part in lay_out(letter):
        out.print()
        out.print(Text(_title(part), style="bold"))
        for line in part.lines:
            _print_line(out, line)


def _attributes(letter: DeadLetter) -> Iterator[tuple[str, str, Any]]:
    for name, value in letter.delivery.attributes.items():
        yield name, value["DataType"], value.get("StringValue", value.get("BinaryValue"))


def _print_facts(out: Console, letter: DeadLetter) -> None:
    now = _now()
    facts = {
        "id": letter.message_id,
        "original id": letter.original_message_id,
        "reason": letter.reason,
        "detail": letter.detail,
        "user": letter.user_id or "",
        "policy": " ".join(filter(None, (letter.policy_id, letter.version))),
        "sent": f"{letter.sent_at.isoformat(timespec='seconds')}, "
        f"{screen.duration((now - letter.sent_at).total_seconds())} ago",
        "received": f"{_times(letter.receive_count)} before it died",
        "replayed": _times(letter.history.count)
        + (f", last {letter.history.at}" if letter.history.at else ""),
    }
    table = screen.table("", "")
    table.show_header = False
    for name, value in facts.items():
        if value:
            table.add_row(name, screen.plain(value))
    table.add_row("expires in", _expiry((letter.expires_at - now).total_seconds()))
    for edit in letter.history.edits:
        changed = ", ".join(edit.changed)
        table.add_row("edited", screen.plain(f"{edit.at} by {edit.by}: {changed}"))
    for name, kind, value in _attributes(letter):
        if name not in {ATTRIBUTE, REPLAYS_ATTRIBUTE}:  # told above
            text = value.hex() if isinstance(value, bytes) else value
            table.add_row("attribute", screen.plain(f"{name} ({kind}): {text}"))
    out.print(table)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _title(part: BodyPart) -> str:
    return f"the text in {part.path}" if part.path else "body"


def _print_line(out: Console, line: BodyLine) -> None:
    text = screen.plain(line.text)
    if not line.note:
        out.print(text, soft_wrap=True)
        return
    note = screen.plain(line.note).plain
    if line.column is None:
        text.stylize(_WRONG)
        out.print(text + Text(f"   <-- {note}", style=_WRONG), soft_wrap=True)
        return
    too_long = text.cell_len > out.width
    if too_long:
        out.print(text, soft_wrap=True)
    before, after = screen.plain(line.text[: line.column]), screen.plain(line.text[line.column :])
    # A window on a long line, so that the caret stands beneath its place.
    cut = too_long and before.cell_len > out.width // 2
    shown = (Text("…") + before[-(out.width // 2) :] if cut else before).copy()
    caret = shown.cell_len
    shown = shown + after
    shown.expand_tabs(1)
    shown.truncate(out.width, overflow="ellipsis")
    out.print(shown)
    out.print(Text(" " * caret + f"^ {note}", style=_WRONG), soft_wrap=True)


async def _find(message_id: str) -> DeadLetter:
    chosen = Choice(ids=[message_id])
    found: list[DeadLetter] = []

    def take(letter: DeadLetter) -> bool:
        if chosen.matches(letter):
            found.append(letter)
        return not found

    await _look("looking", take)
    if not found:
        raise UsageError(f"no dead letter {message_id}: see `aup-worker dead-letters list`")
    return found[0]


@app.command()
def export(  # noqa: PLR0913, PLR0917 - one parameter an option
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Where to; - is stdout.")],
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Limit = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Write dead letters to a file, whole, as JSON Lines.

    Nothing is taken. The file is there whole or not at all. After editing, `replay --from` sends
    it.

    Example: aup-worker dead-letters export dead.jsonl --reason invalid
    """
    chosen = choice(
        reasons=reason,
        users=user,
        policies=policy,
        versions=version,
        since=since,
        until=until,
        grep=grep,
        limit=limit,
    )
    on_stdout = str(file) == "-"
    if on_stdout and as_json:
        raise UsageError("--json: stdout holds the dead letters already")
    ids = _export(file, chosen, overwrite=force)
    if as_json:
        screen.print_json({"exported": len(ids), "file": str(file)})
    else:
        screen.note(f"exported {_letters(len(ids))} to {'stdout' if on_stdout else file}")


def _export(file: Path, chosen: Choice, *, overwrite: bool) -> list[str]:
    ids: list[str] = []
    with _opened(file, overwrite=overwrite) as stream:

        def take(letter: DeadLetter) -> bool:
            if chosen.matches(letter):
                stream.write(f"{to_line(letter)}\n")
                ids.append(letter.message_id)
            return chosen.limit is None or len(ids) < chosen.limit

        run_async(_look("exporting", take))
    return ids


@contextmanager
def _opened(file: Path, *, overwrite: bool) -> Iterator[IO[str]]:
    if str(file) == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    with new_file(file, overwrite=overwrite) as stream:
        yield stream


def _letters(count: int) -> str:
    return f"{count} dead letter{'' if count == 1 else 's'}"


@app.command()
def purge(  # noqa: PLR0913, PLR0917 - one parameter an option
    reason: Reasons = None,
    user: Users = None,
    policy: Policies = None,
    version: Versions = None,
    since: Since = None,
    until: Until = None,
    grep: Grep = None,
    limit: Limit = None,
    file: Annotated[
        Path | None,
        typer.Option("--export", help="Where to keep them; dead-letters-TIME.jsonl, if absent."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: AsJSON = False,
) -> None:
    """Delete dead letters for good, written to a file first.

    It asks before it deletes. What is deleted is what the file holds. Exit codes: 0 done, 1 not
    all were deleted.

    Example: aup-worker dead-letters purge --reason malformed --until 7d
    """
    chosen = choice(
        reasons=reason,
        users=user,
        policies=policy,
        versions=version,
        since=since,
        until=until,
        grep=grep,
        limit=limit,
    )
    file = file or Path(f"dead-letters-{_now():%Y%m%dT%H%M%SZ}.jsonl")
    if str(file) == "-":
        raise UsageError("--export -: what is deleted is kept in a file")
    ids = _export(file, chosen, overwrite=False)
    if not ids:
        file.unlink()
    elif not yes:
        _ask(len(ids), file)
    figures = run_async(_purge(ids)) if ids else PurgeFigures()
    _report(figures, ids, file, as_json=as_json)


def _ask(count: int, file: Path) -> None:
    screen.note(f"{_letters(count)} will be deleted for good; {file} holds them")
    try:
        answer = typer.prompt(
            "Type their number to go on", default="", show_default=False, err=True
        )
    except typer.Abort:
        answer = ""
    if answer.strip() != str(count):
        raise AUPError(f"not confirmed; nothing was deleted, and {file} stays")


async def _purge(ids: list[str]) -> PurgeFigures:
    settings = load()
    with screen.progress("deleting") as bar:
        task = bar.add_task("deleting", total=len(ids), rate="")
        async with open_queues(settings) as (_, queue):
            return await delete(
                queue,
                ids,
                now=_now,
                look_seconds=settings.look_seconds,
                polls=settings.poll_concurrency,
                progress=lambda figures: bar.update(task, completed=figures.deleted),
            )


def _report(figures: PurgeFigures, ids: list[str], file: Path, *, as_json: bool) -> None:
    missing = len(ids) - figures.deleted - figures.failed
    if as_json:
        screen.print_json(
            {
                "exported": len(ids),
                "file": str(file) if ids else None,
                "deleted": figures.deleted,
                "failed": figures.failed,
                "missing": missing,
            }
        )
    elif not ids:
        screen.note("no dead letters match; nothing was deleted")
    else:
        screen.note(f"deleted {figures.deleted} of {len(ids)}; {file} holds them")
    if figures.failed:
        screen.note(f"{figures.failed} could not be deleted ({figures.last_error})")
    if missing:
        screen.note(f"{missing} were not found again: replayed, deleted or held by others")
    if figures.failed or missing:
        raise typer.Exit(1)
