"""Acceptances sent to the queue from JSON Lines, validated first."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import IO, Final

from worker.aws.sqs import MessageQueue
from worker.domain.envelope import decode
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import (
    AWSError,
    AWSThrottledError,
    AWSUnavailableError,
    FutureError,
    RefusedError,
    UsageError,
)
from worker.runtime.backoff import full_jitter

_ATTEMPTS: Final = 6
_FAILURES_KEPT: Final = 20
# Batches under way at once.
_CONCURRENCY: Final = 8
# A line that goes on for so many times its limit is taken for one without an end.
_ENDLESS: Final = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One line of input.

    Attributes:
        source: the file's name, or `stdin`.
        number: from 1.
        text: without its line ending.
    """

    source: str
    number: int
    text: str


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line that must not be sent, and why."""

    source: str
    number: int
    problem: str

    def __str__(self) -> str:
        """Name the place and the reason."""
        return f"{self.source}:{self.number}: {self.problem}"


@dataclass(slots=True)
class PushFigures:
    """What a push did, so far.

    Attributes:
        sent: confirmed by SQS.
        failed: not sent after all attempts.
        seconds: since it began.
    """

    sent: int = 0
    failed: int = 0
    last_error: str = ""
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def raw_lines(
    name: str, stream: IO[bytes], max_bytes: int = MESSAGE_MAX_BYTES
) -> Iterator[tuple[bytes, int]]:
    """Yield each line, cut behind its limit, and its whole length, so that memory stays bounded.

    Args:
        name: Name of the stream in errors.
        stream: Bytes, which need not be seekable.
        max_bytes: Limit of a line without its line ending.

    Raises:
        UsageError: A line goes on for 64 times the limit.
    """
    most = max_bytes + 2  # the line ending
    for number in count(1):
        line = stream.readline(most)
        if not line:
            return
        length, rest = len(line), line
        while len(rest) == most and not rest.endswith(b"\n"):
            rest = stream.readline(most)
            length += len(rest)
            if length > _ENDLESS * max_bytes:
                raise UsageError(
                    f"{name}:{number}: no line ending within {length:,} bytes; a line takes at "
                    f"most {max_bytes:,}, nothing was sent"
                )
        yield line, length


def lines(
    name: str, stream: IO[bytes], max_bytes: int = MESSAGE_MAX_BYTES
) -> Iterator[Line | BadLine]:
    """Read lines, blank ones left out, one at a time.

    Args:
        name: what the stream is called in messages.
        stream: bytes; each line must be UTF-8.
        max_bytes: Limit of a line; the rest of a longer one is skipped.

    Raises:
        UsageError: A line has no end.
    """
    for number, (raw, length) in enumerate(raw_lines(name, stream, max_bytes), start=1):
        content = raw.rstrip(b"\r\n")
        if length > len(raw) or len(content) > max_bytes:
            yield BadLine(name, number, f"longer than {max_bytes:,} bytes, the limit of a line")
            continue
        if not content.strip():
            continue
        try:
            yield Line(name, number, content.decode())
        except UnicodeDecodeError as error:
            yield BadLine(name, number, f"malformed: not UTF-8 at byte {error.start}")


def examine(
    each: Line | BadLine, max_bytes: int = MESSAGE_MAX_BYTES, *, clock_skew_seconds: float
) -> BadLine | None:
    """Say what is wrong with a line that is to hold an acceptance; None if nothing is."""
    if isinstance(each, BadLine):
        return each
    unsendable = examine_raw(each, max_bytes)
    if unsendable is not None:
        return unsendable
    try:
        decode(each.text, now=datetime.now(UTC), clock_skew_seconds=clock_skew_seconds)
    except FutureError as refused:
        return BadLine(each.source, each.number, f"{refused} (this host's clock)")
    except RefusedError as refused:
        return BadLine(each.source, each.number, str(refused))
    return None


def examine_raw(each: Line | BadLine, max_bytes: int = MESSAGE_MAX_BYTES) -> BadLine | None:
    """Return why SQS would refuse a line; None if it would not.

    Args:
        each: The line.
        max_bytes: MaximumMessageSize of the queue.
    """
    if isinstance(each, BadLine):
        return each
    problem = OutgoingMessage(each.text).why_refused(max_bytes)
    return BadLine(each.source, each.number, problem) if problem else None


async def push(
    queue: MessageQueue,
    messages: Iterable[Line],
    *,
    rate_per_second: float | None = None,
    progress: Callable[[PushFigures], None] | None = None,
) -> PushFigures:
    """Send messages in batches, retrying what failed, entry by entry.

    Args:
        queue: where to.
        messages: read one at a time, so that memory stays constant.
        rate_per_second: at most; unbounded if absent.
        progress: told after each batch.
    """
    figures = PushFigures()
    started_at = time.monotonic()
    running: deque[asyncio.Task[None]] = deque()

    async def send(batch: list[Line]) -> None:
        await _send(queue, batch, figures)
        figures.seconds = time.monotonic() - started_at
        if progress is not None:
            progress(figures)

    async for batch in _paced(messages, rate_per_second):
        if len(running) >= _CONCURRENCY:
            await running.popleft()
        running.append(asyncio.create_task(send(batch)))
    for task in running:
        await task
    figures.seconds = time.monotonic() - started_at
    return figures


async def _paced(
    messages: Iterable[Line], rate_per_second: float | None
) -> AsyncIterator[list[Line]]:
    started_at = time.monotonic()
    count = 0
    for batch in _batches(messages, rate_per_second):
        yield batch
        count += len(batch)
        if rate_per_second is not None:
            await asyncio.sleep(max(0.0, started_at + count / rate_per_second - time.monotonic()))


def _batches(messages: Iterable[Line], rate_per_second: float | None) -> Iterator[list[Line]]:
    # A slow rate sends smaller batches rather than ten at once.
    most = BATCH_MAX_ENTRIES
    if rate_per_second is not None:
        most = max(1, min(most, int(rate_per_second)))
    batch: list[Line] = []
    size = 0
    for line in messages:
        line_bytes = len(line.text.encode())
        if batch and (len(batch) == most or size + line_bytes > MESSAGE_MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += line_bytes
    if batch:
        yield batch


async def _send(queue: MessageQueue, batch: list[Line], figures: PushFigures) -> None:
    waiting = batch
    for attempt in range(1, _ATTEMPTS + 1):
        results: list[AWSError | None]
        try:
            results = await queue.send([OutgoingMessage(line.text) for line in waiting])
        except AWSError as error:
            results = [error] * len(waiting)
        again: list[Line] = []
        for line, result in zip(waiting, results, strict=True):
            if result is None:
                figures.sent += 1
            elif attempt < _ATTEMPTS and isinstance(
                result, AWSThrottledError | AWSUnavailableError
            ):
                again.append(line)
            else:
                _note_failure(figures, line, result)
        if not again:
            return
        waiting = again
        await asyncio.sleep(full_jitter(attempt, base_seconds=0.2, cap_seconds=5.0))


def _note_failure(figures: PushFigures, line: Line, error: AWSError) -> None:
    figures.failed += 1
    figures.last_error = str(error)
    if len(figures.failures) < _FAILURES_KEPT:
        figures.failures.append(f"{line.source}:{line.number}: {error}")
