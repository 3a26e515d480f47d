"""The verb that sends acceptances."""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from worker.cli import screen
from worker.cli.running import run_async
from worker.errors import UsageError
from worker.monitoring.companions import traced
from worker.push import BadLine, Line, PushFigures, examine, examine_raw, lines
from worker.push import push as send
from worker.queue import open_queues
from worker.settings import Settings, load

_BAD_LINES_SHOWN = 20
_SPOOL_BYTES = 8 * 1024 * 1024


def push(  # noqa: PLR0913, PLR0917 - one parameter an option
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FILE", help="JSON Lines, one acceptance a line; - is stdin."),
    ] = None,
    user: Annotated[str | None, typer.Option(help="Send one acceptance: of this user,")] = None,
    policy: Annotated[str | None, typer.Option(help="of this policy,")] = None,
    version: Annotated[str | None, typer.Option(help="of this version.")] = None,
    event_id: Annotated[str | None, typer.Option(help="Its event id; made, if absent.")] = None,
    validate: Annotated[
        bool, typer.Option(help="Check every line first, or send raw bodies.")
    ] = True,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Send the good lines of a bad file.")
    ] = False,
    rate: Annotated[
        float | None, typer.Option(metavar="RATE", min=0.1, help="Messages a second at most.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Figures as JSON on stdout.")] = False,
) -> None:
    """Send acceptances from files, from stdin or from options.

    Every line is checked before the first is sent. Exit codes: 0 all sent, 1 some not, 2 nothing
    sent because the input is wrong.

    Example: aup-worker push --user u-42 --policy aup --version 2026-01
    """
    settings = load()
    skew = settings.clock_skew_seconds
    check = (lambda line: examine(line, clock_skew_seconds=skew)) if validate else examine_raw
    with ExitStack() as stack:
        if user or policy or version:
            inputs = _one(user, policy, version, event_id, files)
        else:
            inputs = _streams(files, stack)
        total, bad = _examine(inputs, check)
        if total == 0 and not bad:
            names = ", ".join(name for name, _ in inputs)
            raise UsageError(f"{names}: no lines, nothing to send")
        _show(bad)
        if bad and not skip_invalid:
            raise UsageError(
                f"{len(bad)} of {total + len(bad)} lines are bad; nothing was sent "
                "(--skip-invalid sends the others, --no-validate sends all)"
            )
        good = (line for line in _lines(inputs) if check(line) is None)
        figures = run_async(_send(settings, good, total, rate))  # type: ignore[arg-type] # bad ones are out
    _report(figures, len(bad), as_json=as_json)


Inputs = list[tuple[str, IO[bytes]]]


def _one(
    user: str | None,
    policy: str | None,
    version: str | None,
    event_id: str | None,
    files: list[Path] | None,
) -> Inputs:
    if not (user and policy and version) or files:
        raise UsageError("one acceptance takes --user, --policy and --version, and no file")
    acceptance = {
        "event_id": event_id or str(uuid.uuid4()),
        "user_id": user,
        "policy_id": policy,
        "version": version,
        "accepted_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    # Bytes of an argument that are not UTF-8 stay what they are, for the check to name.
    text = json.dumps(acceptance, ensure_ascii=False)
    stream = io.BytesIO(text.encode("utf-8", "surrogateescape"))
    return [("options", stream)]


def _streams(files: list[Path] | None, stack: ExitStack) -> Inputs:
    if not files and sys.stdin.isatty():
        raise UsageError("nothing to send: name a file, pipe JSON Lines in, or give --user")
    return [_stream(path, stack) for path in files or [Path("-")]]


def _stream(path: Path, stack: ExitStack) -> tuple[str, IO[bytes]]:
    if str(path) == "-":
        # Lines are read twice, to check them all before sending the first.
        spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - the stack closes it
        shutil.copyfileobj(sys.stdin.buffer, spool)
        return "stdin", spool
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    return str(path), stream


def _lines(inputs: Inputs) -> Iterator[Line | BadLine]:
    for name, stream in inputs:
        stream.seek(0)
        yield from lines(name, stream)


def _examine(
    inputs: Inputs, check: Callable[[Line | BadLine], BadLine | None]
) -> tuple[int, list[BadLine]]:
    good = 0
    bad: list[BadLine] = []
    for line in _lines(inputs):
        problem = check(line)
        if problem is None:
            good += 1
        else:
            bad.append(problem)
    return good, bad


def _show(bad: list[BadLine]) -> None:
    for problem in bad[:_BAD_LINES_SHOWN]:
        screen.note(str(problem))
    if len(bad) > _BAD_LINES_SHOWN:
        screen.note(f"… and {len(bad) - _BAD_LINES_SHOWN} more")


async def _send(
    settings: Settings, messages: Iterator[Line], total: int, rate: float | None
) -> PushFigures:
    with screen.progress("sending") as bar:
        task = bar.add_task("sending", total=total, rate="")

        def show(figures: PushFigures) -> None:
            per_second = figures.sent / max(figures.seconds, 0.001)
            bar.update(task, completed=figures.sent, rate=f"{per_second:,.0f}/s")

        async with traced(_tell_of_traces) as tracing, open_queues(settings) as (queue, _):
            place = queue if tracing is None else tracing.publishing(queue)
            return await send(place, messages, rate_per_second=rate, progress=show)


def _tell_of_traces(problem: str) -> None:
    screen.note(f"aup-worker: traces are not exported: {problem}")


def _report(figures: PushFigures, skipped: int, *, as_json: bool) -> None:
    report: dict[str, Any] = {
        "sent": figures.sent,
        "failed": figures.failed,
        "skipped": skipped,
        "seconds": round(figures.seconds, 3),
    }
    for failure in figures.failures:
        screen.note(failure)
    if as_json:
        screen.print_json_line(report)
    else:
        per_second = figures.sent / max(figures.seconds, 0.001)
        screen.note(
            f"sent {figures.sent}, failed {figures.failed}, skipped {skipped} "
            f"in {figures.seconds:.1f} s ({per_second:,.0f}/s)"
        )
    if figures.failed or skipped:
        raise typer.Exit(1)
