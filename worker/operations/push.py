"""Validation and sending of acceptances from JSON Lines."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import IO, Final

from worker.aws.sqs import MessageQueue
from worker.domain.acceptance import Acceptance
from worker.domain.envelope import decode
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.domain.message_group import MessageGroup
from worker.errors import (
    AWSError,
    FutureError,
    InvalidAcceptanceError,
    RefusedError,
    UsageError,
)
from worker.runtime.clock import utc_now
from worker.runtime.rate_limiter import RateLimiter
from worker.runtime.retry import RetryPolicy, retry_entries

PUSH_RETRIES: Final = RetryPolicy(attempts=6, base_seconds=0.2, cap_seconds=5.0)
_FAILURES_KEPT: Final = 20
# Concurrent batches.
CONCURRENCY: Final = 8
# Reading stops at a line longer than this multiple of the limit.
_LINE_LENGTH_FACTOR_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Line:
    """One line of input.

    Attributes:
        source: Name of the file, or `stdin`.
        number: Line number, starting at 1.
        text: The line without its line ending.
        problem: Why the line cannot be read; empty if it can.
        group_id: Message group of the message, for fair queues.
    """

    source: str
    number: int
    text: str
    problem: str = ""
    group_id: str | None = None

    def located(self, problem: str) -> str:
        """Return a problem with the position of the line; empty without a problem."""
        return f"{self.source}:{self.number}: {problem}" if problem else ""


@dataclass(slots=True)
class PushFigures:
    """Counts of a push so far.

    Attributes:
        sent: Messages confirmed by SQS.
        failed: Messages not sent after all attempts.
        seconds: Elapsed time.
        failures: One line for each failed message, limited in number.
    """

    sent: int = 0
    failed: int = 0
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def read_raw_lines(
    name: str, stream: IO[bytes], max_bytes: int = MESSAGE_MAX_BYTES
) -> Iterator[tuple[bytes, int]]:
    """Yield each line, truncated to its limit, and its full length, so that memory stays bounded.

    Args:
        name: Name of the stream in errors.
        stream: Binary stream; it need not be seekable.
        max_bytes: Maximum length of a line without its line ending.

    Raises:
        UsageError: A line is longer than 64 times the limit.
    """
    limit = max_bytes + 2  # with the line ending
    for number in count(1):
        line = stream.readline(limit)
        if not line:
            return
        length, rest = len(line), line
        while len(rest) == limit and not rest.endswith(b"\n"):
            rest = stream.readline(limit)
            length += len(rest)
            if length > _LINE_LENGTH_FACTOR_MAX * max_bytes:
                raise UsageError(
                    f"{name}:{number}: no line ending within {length:,} bytes (the limit of a line "
                    f"is {max_bytes:,}); nothing was sent"
                )
        yield line, length


def read_lines(name: str, stream: IO[bytes], max_bytes: int = MESSAGE_MAX_BYTES) -> Iterator[Line]:
    """Yield the lines of a stream, without blank ones.

    Args:
        name: Name of the stream in errors.
        stream: Binary stream of UTF-8 lines.
        max_bytes: Maximum length of a line; a longer one is yielded with a problem.

    Raises:
        UsageError: A line is longer than 64 times the limit.
    """
    for number, (raw, length) in enumerate(read_raw_lines(name, stream, max_bytes), start=1):
        content = raw.rstrip(b"\r\n")
        if length > len(raw) or len(content) > max_bytes:
            yield Line(name, number, "", f"longer than the limit of {max_bytes:,} bytes")
            continue
        if not content.strip():
            continue
        try:
            yield Line(name, number, content.decode())
        except UnicodeDecodeError as error:
            yield Line(name, number, "", f"malformed: not UTF-8 at byte {error.start}")


def outgoing(
    text: str,
    *,
    max_bytes: int = MESSAGE_MAX_BYTES,
    clock_skew_seconds: float,
    group: MessageGroup | None = None,
) -> tuple[Acceptance, OutgoingMessage]:
    """Return an acceptance, validated, and the message that sends it.

    Args:
        text: JSON of the acceptance, or one of the envelopes that the worker reads.
        max_bytes: MaximumMessageSize of the queue.
        clock_skew_seconds: How far `accepted_at` may be in the future.
        group: Message group, for fair queues.

    Raises:
        InvalidAcceptanceError: SQS or the worker would reject it.
    """
    refusal = OutgoingMessage(text).why_refused(max_bytes)
    if refusal:
        raise InvalidAcceptanceError([refusal])
    try:
        acceptance = decode(text, now=utc_now(), clock_skew_seconds=clock_skew_seconds)
        group_id = None if group is None else group.of(acceptance)
    except FutureError as refused:
        raise InvalidAcceptanceError([f"{refused} (by this host's clock)"]) from None
    except (RefusedError, ValueError) as refused:
        raise InvalidAcceptanceError([str(refused)]) from None
    return acceptance, OutgoingMessage(text, group_id=group_id)


def validate_acceptance(
    line: Line,
    max_bytes: int = MESSAGE_MAX_BYTES,
    *,
    clock_skew_seconds: float,
    group: MessageGroup | None = None,
) -> str:
    """Return why a line is not a valid acceptance, with its position; empty if it is.

    Args:
        line: The line.
        max_bytes: MaximumMessageSize of the queue.
        clock_skew_seconds: How far `accepted_at` may be in the future.
        group: Message group, for fair queues.
    """
    if line.problem:
        return line.located(line.problem)
    try:
        outgoing(line.text, max_bytes=max_bytes, clock_skew_seconds=clock_skew_seconds, group=group)
    except InvalidAcceptanceError as invalid:
        return line.located(str(invalid))
    return ""


def with_group(line: Line, group: MessageGroup, *, clock_skew_seconds: float) -> Line:
    """Return a valid line with its message group."""
    if group.value is not None:
        return replace(line, group_id=group.value)
    _, message = outgoing(line.text, clock_skew_seconds=clock_skew_seconds, group=group)
    return replace(line, group_id=message.group_id)


def validate_raw(line: Line, max_bytes: int = MESSAGE_MAX_BYTES) -> str:
    """Return why SQS would reject a line, with its position; empty if it would accept it.

    Args:
        line: The line.
        max_bytes: MaximumMessageSize of the queue.
    """
    return line.located(line.problem or OutgoingMessage(line.text).why_refused(max_bytes))


async def push(
    queue: MessageQueue,
    messages: Iterable[Line],
    *,
    rate_per_second: float | None = None,
    progress: Callable[[PushFigures], None] | None = None,
) -> PushFigures:
    """Send messages in batches; retry the entries that fail.

    Args:
        queue: Destination queue.
        messages: Lines to send, read one at a time so that memory stays constant.
        rate_per_second: Maximum rate of messages; None for no limit.
        progress: Called after each batch.

    Returns:
        The counts.
    """
    figures = PushFigures()
    started_at = time.monotonic()
    rate_limiter = RateLimiter(rate_per_second)
    running: deque[asyncio.Task[None]] = deque()

    async def send(batch: list[Line]) -> None:
        await _send(queue, batch, figures)
        figures.seconds = time.monotonic() - started_at
        if progress is not None:
            progress(figures)

    for batch in _batches(messages, rate_limiter.batch_limit(BATCH_MAX_ENTRIES)):
        await rate_limiter.wait()
        rate_limiter.spend(len(batch))
        if len(running) >= CONCURRENCY:
            await running.popleft()
        running.append(asyncio.create_task(send(batch)))
    for task in running:
        await task
    figures.seconds = time.monotonic() - started_at
    return figures


def _batches(messages: Iterable[Line], limit: int) -> Iterator[list[Line]]:
    batch: list[Line] = []
    size = 0
    for line in messages:
        line_bytes = len(line.text.encode())
        if batch and (len(batch) == limit or size + line_bytes > MESSAGE_MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(line)
        size += line_bytes
    if batch:
        yield batch


async def _send(queue: MessageQueue, batch: list[Line], figures: PushFigures) -> None:
    messages = [OutgoingMessage(line.text, group_id=line.group_id) for line in batch]
    for line, error in zip(batch, await send_batch(queue, messages), strict=True):
        if error is None:
            figures.sent += 1
            continue
        figures.failed += 1
        if len(figures.failures) < _FAILURES_KEPT:
            figures.failures.append(line.located(str(error)))


async def send_batch(
    queue: MessageQueue, messages: Sequence[OutgoingMessage]
) -> list[AWSError | None]:
    """Send up to 10 messages, again those that fail for the moment.

    Returns:
        The last error of each message; None if SQS has it.
    """
    return await retry_entries(PUSH_RETRIES, queue.send, messages)
