"""Verb that sends acceptances."""

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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Annotated

import typer
from rich.progress import Progress

from worker.aws.sqs import Queue, open_queues
from worker.cli import screen
from worker.cli.options import AsJSON, Rate, expand_options
from worker.cli.running import run_async
from worker.domain.message import MESSAGE_MAX_BYTES
from worker.domain.message_group import MessageGroup
from worker.errors import UsageError
from worker.observability.background import traced
from worker.operations.push import (
    Line,
    PushFigures,
    read_lines,
    read_raw_lines,
    validate_acceptance,
    validate_raw,
    with_group,
)
from worker.operations.push import push as send
from worker.runtime.clock import utc_now
from worker.settings import Settings, load

_INVALID_SHOWN_MAX = 20
_VALIDATED_SHOWN_EVERY = 100
_SPOOL_BYTES = 8 * 1024 * 1024
# Lowest MaximumMessageSize that SQS allows.
_LIMIT_MIN_BYTES = 1024


@dataclass(frozen=True, slots=True)
class SingleOptions:
    """Options that state a single acceptance."""

    user: Annotated[str | None, typer.Option(help="User id, to send a single acceptance.")] = None
    policy: Annotated[str | None, typer.Option(help="Policy id of the single acceptance.")] = None
    version: Annotated[
        str | None, typer.Option(help="Policy version of the single acceptance.")
    ] = None
    event_id: Annotated[
        str | None, typer.Option(help="Event id of the single acceptance (default: random).")
    ] = None


@expand_options
def push(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE", help="JSON Lines file, one acceptance per line; - for stdin."
        ),
    ] = None,
    *,
    single: SingleOptions,
    validate: Annotated[
        bool, typer.Option(help="Validate all lines before sending, or send them unchecked.")
    ] = True,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Send the valid lines, skip the others.")
    ] = False,
    group: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD|VALUE", help="Message group: a field, or one value for all messages."
        ),
    ] = None,
    rate: Rate = None,
    as_json: AsJSON = False,
) -> None:
    """Send acceptances from files, stdin or options.

    All lines are validated before the first is sent. --group sets MessageGroupId, so that in a
    fair queue one busy tenant does not delay the others: FIELD is a field of the acceptance, or
    extra.NAME for an unknown one; a message without it is a tenant of its own. Exit codes: 0 all
    sent, 1 some not sent, 2 invalid input, nothing sent.

    Example: aup-worker push --user u-42 --policy aup --version 2026-01
    """
    settings = load()
    check, grouped = _checks(settings, _message_group(group, validate=validate), validate=validate)
    line = _line(single, files)
    with ExitStack() as stack:
        inputs = _streams(files, stack) if line is None else [("options", line)]
        source = Source(inputs, check, skip_invalid, grouped)
        source.validate(MESSAGE_MAX_BYTES)
        figures = run_async(_send(settings, source, rate))
    _report(figures, source.invalid, as_json=as_json)


def _message_group(text: str | None, *, validate: bool) -> MessageGroup | None:
    if text is None:
        return None
    try:
        group = MessageGroup.parse(text)
    except ValueError as problem:
        raise UsageError(f"--group {text}: {problem}") from None
    if group.field and not validate:
        raise UsageError(f"--group {text}: the field is read by validation; omit --no-validate")
    return group


def _checks(
    settings: Settings, group: MessageGroup | None, *, validate: bool
) -> tuple[Callable[[Line, int], str], Callable[[Line], Line] | None]:
    """Return the validation of a line, and the addition of its message group."""
    skew = settings.clock_skew_seconds
    check: Callable[[Line, int], str] = validate_raw
    if validate:
        check = partial(validate_acceptance, clock_skew_seconds=skew, group=group)
    if group is None:
        return check, None
    return check, partial(with_group, group=group, clock_skew_seconds=skew)


Inputs = list[tuple[str, IO[bytes]]]


@dataclass(slots=True)
class Source:
    """Input that is read twice: to validate all lines, then to send them.

    Attributes:
        check: Returns the problem of a line, if any; called with the maximum size in bytes.
        grouped: Adds the message group to a valid line; None for no groups.
        max_bytes: Maximum size of a message.
        valid: Number of valid lines.
        invalid: Number of invalid lines.
        largest_bytes: Size of the largest valid line.
    """

    inputs: Inputs
    check: Callable[[Line, int], str]
    skip_invalid: bool
    grouped: Callable[[Line], Line] | None = None
    max_bytes: int = MESSAGE_MAX_BYTES
    valid: int = 0
    invalid: int = 0
    largest_bytes: int = 0

    def validate(self, max_bytes: int) -> None:
        """Validate all lines.

        Args:
            max_bytes: Maximum size of a message.

        Raises:
            UsageError: The input is empty, or lines are invalid and must not be skipped.
        """
        self.max_bytes, self.valid, self.invalid, self.largest_bytes = max_bytes, 0, 0, 0
        with screen.progress("validating") as bar:
            task = bar.add_task("validating", total=None, rate="")
            for number, line in enumerate(_lines(self.inputs), start=1):
                self._count(line, bar)
                if number % _VALIDATED_SHOWN_EVERY == 0:
                    bar.update(task, completed=number)
        if not self.valid and not self.invalid:
            names = ", ".join(name for name, _ in self.inputs)
            raise UsageError(f"{names}: input is empty, nothing to send")
        if self.invalid > _INVALID_SHOWN_MAX:
            screen.note(f"… and {self.invalid - _INVALID_SHOWN_MAX} more")
        if self.invalid and not self.skip_invalid:
            raise UsageError(
                f"{self.invalid} of {self.valid + self.invalid} lines are invalid; nothing was "
                "sent (--skip-invalid sends the valid ones, --no-validate all that SQS accepts)"
            )

    def _count(self, line: Line, bar: Progress) -> None:
        problem = self.check(line, self.max_bytes)
        if problem:
            self.invalid += 1
            if self.invalid <= _INVALID_SHOWN_MAX:
                screen.note(problem, bar)
        else:
            self.valid += 1
            self.largest_bytes = max(self.largest_bytes, len(line.text.encode()))

    def lines(self) -> Iterator[Line]:
        """Yield the valid lines."""
        for line in _lines(self.inputs):
            if not self.check(line, self.max_bytes):
                yield line if self.grouped is None else self.grouped(line)


def _line(single: SingleOptions, files: list[Path] | None) -> IO[bytes] | None:
    """Return the line of a single acceptance; None without these options."""
    stated = [single.user, single.policy, single.version]
    if not any(stated):
        return None
    if not all(stated) or files:
        raise UsageError("a single acceptance requires --user, --policy and --version, and no file")
    acceptance = {
        "event_id": single.event_id or str(uuid.uuid4()),
        "user_id": single.user,
        "policy_id": single.policy,
        "version": single.version,
        "accepted_at": utc_now().isoformat(timespec="seconds").replace("+00:00", "Z"),
    }
    # Preserve bytes of an argument that are not UTF-8, so that validation reports them.
    text = json.dumps(acceptance, ensure_ascii=False)
    return io.BytesIO(text.encode("utf-8", "surrogateescape"))


def _streams(files: list[Path] | None, stack: ExitStack) -> Inputs:
    if not files and sys.stdin.isatty():
        raise UsageError("no input: pass a file, pipe JSON Lines to stdin, or pass --user")
    return [_stream(path, stack) for path in files or [Path("-")]]


def _stream(path: Path, stack: ExitStack) -> tuple[str, IO[bytes]]:
    if str(path) == "-":
        return "stdin", _spooled("stdin", sys.stdin.buffer, stack)
    name = str(path)
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    is_file = stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    return name, stream if is_file else _spooled(name, stream, stack)


def _spooled(name: str, stream: IO[bytes], stack: ExitStack) -> IO[bytes]:
    """Copy a stream that cannot be read twice, such as a pipe; truncate overlong lines."""
    spool = stack.enter_context(tempfile.SpooledTemporaryFile(max_size=_SPOOL_BYTES))  # noqa: SIM115 - closed by the stack
    try:
        for line, length in read_raw_lines(name, stream):
            spool.write(line)
            if length > len(line):
                spool.write(b"\n")
        spool.flush()
    except OSError as error:
        with suppress(OSError):
            spool.close()  # A second close, by the stack, has no effect.
        raise UsageError(
            f"{name}: cannot be copied to {tempfile.gettempdir()} for validation: "
            f"{error.strerror}; nothing was sent. Pass a file instead, or set TMPDIR"
        ) from None
    return spool


def _lines(inputs: Inputs) -> Iterator[Line]:
    for name, stream in inputs:
        stream.seek(0)
        yield from read_lines(name, stream)


async def check_limit(queue: Queue, source: Source) -> None:
    """Validate the input again if the queue's message size limit requires it.

    Raises:
        UsageError: A message exceeds the limit.
    """
    unknown = await queue.check_destination()
    if unknown and source.largest_bytes > _LIMIT_MIN_BYTES:
        screen.note(
            f"aup-worker: cannot read MaximumMessageSize of the queue, assuming "
            f"{MESSAGE_MAX_BYTES:,} bytes: {unknown}"
        )
    if source.largest_bytes > queue.message_max_bytes:
        source.validate(queue.message_max_bytes)


async def _send(settings: Settings, source: Source, rate: float | None) -> PushFigures:
    with screen.progress("sending") as bar:
        task = bar.add_task("sending", total=source.valid, rate="")

        def show(figures: PushFigures) -> None:
            per_second = figures.sent / max(figures.seconds, 0.001)
            bar.update(task, completed=figures.sent, rate=f"{per_second:,.0f}/s")

        async with traced(_note_trace_error) as tracing, open_queues(settings) as (queue, _):
            await check_limit(queue, source)
            destination = queue if tracing is None else tracing.publishing(queue)
            return await send(destination, source.lines(), rate_per_second=rate, progress=show)


def _note_trace_error(problem: str) -> None:
    screen.note(f"aup-worker: traces are not exported: {problem}")


def _report(figures: PushFigures, skipped: int, *, as_json: bool) -> None:
    for failure in figures.failures:
        screen.note(failure)
    if as_json:
        screen.print_json_line(
            {
                "sent": figures.sent,
                "failed": figures.failed,
                "skipped": skipped,
                "seconds": round(figures.seconds, 3),
            }
        )
    else:
        per_second = figures.sent / max(figures.seconds, 0.001)
        screen.note(
            f"sent {figures.sent}, failed {figures.failed}, skipped {skipped} "
            f"in {figures.seconds:.1f} s ({per_second:,.0f}/s)"
        )
    if figures.failed or skipped:
        raise typer.Exit(1)
