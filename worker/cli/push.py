"""The verb that sends acceptances."""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Annotated, Any

import typer

from worker.aws.queue_lookup import open_queues
from worker.aws.sqs import Queue
from worker.cli import screen
from worker.cli.running import run_async
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.errors import UsageError
from worker.observability.background import traced
from worker.operations.push import (
    InvalidLine,
    Line,
    PushFigures,
    read_lines,
    read_raw_lines,
    validate_acceptance,
    validate_raw,
)
from worker.operations.push import push as send
from worker.settings import Settings, load

_BAD_LINES_SHOWN = 20
_SPOOL_BYTES = 8 * 1024 * 1024
# No queue has a lower MaximumMessageSize.
_LIMIT_MIN_BYTES = 1024


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
    check = partial(validate_acceptance, clock_skew_seconds=skew) if validate else validate_raw
    with ExitStack() as stack:
        if user or policy or version:
            inputs = _one(user, policy, version, event_id, files)
        else:
            inputs = _streams(files, stack)
        source = Source(inputs, check, skip_invalid)
        source.examine(MESSAGE_MAX_BYTES)
        figures = run_async(_send(settings, source, rate))
    _report(figures, source.bad, as_json=as_json)


Inputs = list[tuple[str, IO[bytes]]]


@dataclass(slots=True)
class Source:
    """Input that is read twice: all of it is checked before the first line is sent.

    Attributes:
        check: Returns what is wrong with a line, given the limit of a message in bytes.
        good: Lines to send.
        bad: Lines that must not be sent.
        largest_bytes: Size of the largest line to send.
    """

    inputs: Inputs
    check: Callable[[Line | InvalidLine, int], InvalidLine | None]
    skip_invalid: bool
    max_bytes: int = MESSAGE_MAX_BYTES
    good: int = 0
    bad: int = 0
    largest_bytes: int = 0
    shown: list[InvalidLine] = field(default_factory=list)

    def examine(self, max_bytes: int) -> None:
        """Check all lines against the limit of a message.

        Raises:
            UsageError: Some are bad, or there are none.
        """
        self.max_bytes, self.good, self.bad, self.largest_bytes = max_bytes, 0, 0, 0
        self.shown.clear()
        for line in _lines(self.inputs):
            problem = self.check(line, max_bytes)
            if problem is not None:
                self.bad += 1
                if len(self.shown) < _BAD_LINES_SHOWN:
                    self.shown.append(problem)
            elif isinstance(line, Line):
                self.good += 1
                self.largest_bytes = max(self.largest_bytes, len(line.text.encode()))
        if not self.good and not self.bad:
            names = ", ".join(name for name, _ in self.inputs)
            raise UsageError(f"{names}: no lines, nothing to send")
        _show(self.shown, self.bad)
        if self.bad and not self.skip_invalid:
            raise UsageError(
                f"{self.bad} of {self.good + self.bad} lines are bad; nothing was sent "
                "(--skip-invalid sends the others, --no-validate sends all that SQS takes)"
            )

    def lines(self) -> Iterator[Line]:
        """Yield the lines to send."""
        for line in _lines(self.inputs):
            if isinstance(line, Line) and self.check(line, self.max_bytes) is None:
                yield line


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
        return "stdin", _spooled("stdin", sys.stdin.buffer, stack)
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        return str(path), _spooled(str(path), stream, stack)
    return str(path), stream


def _spooled(name: str, stream: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """Copy a stream that cannot be read twice, such as a pipe; lines too long are cut short."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - the stack closes it
    try:
        for line, length in read_raw_lines(name, stream):
            spool.write(line)
            if length > len(line):
                spool.write(b"\n")
        spool.flush()
    except OSError as error:
        with suppress(OSError):
            spool.close()  # the second time, in the stack, does nothing
        raise UsageError(
            f"{name}: cannot be copied to {tempfile.gettempdir()}, where it waits until all of it "
            f"is checked: {error.strerror}; nothing was sent. Name a file, or set TMPDIR"
        ) from None
    return spool


def _lines(inputs: Inputs) -> Iterator[Line | InvalidLine]:
    for name, stream in inputs:
        stream.seek(0)
        yield from read_lines(name, stream)


def _show(shown: list[InvalidLine], bad: int) -> None:
    for problem in shown:
        screen.note(str(problem))
    if bad > len(shown):
        screen.note(f"… and {bad - len(shown)} more")


async def check_limit(queue: Queue, source: Source) -> None:
    """Check the input against the queue's own limit, before anything is sent."""
    unknown = await queue.check_destination()
    if unknown and source.largest_bytes > _LIMIT_MIN_BYTES:
        screen.note(
            f"aup-worker: cannot read the queue's MaximumMessageSize, {MESSAGE_MAX_BYTES:,} bytes "
            f"assumed: {unknown}"
        )
    if source.largest_bytes > queue.message_max_bytes:
        source.examine(queue.message_max_bytes)


async def _send(settings: Settings, source: Source, rate: float | None) -> PushFigures:
    with screen.progress("sending") as bar:
        task = bar.add_task("sending", total=source.good, rate="")

        def show(figures: PushFigures) -> None:
            per_second = figures.sent / max(figures.seconds, 0.001)
            bar.update(task, completed=figures.sent, rate=f"{per_second:,.0f}/s")

        async with traced(_tell_of_traces) as tracing, open_queues(settings) as (queue, _):
            await check_limit(queue, source)
            place = queue if tracing is None else tracing.publishing(queue)
            return await send(place, source.lines(), rate_per_second=rate, progress=show)


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
