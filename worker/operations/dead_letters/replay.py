"""Replay of dead letters: send each to the source queue, then delete it; or only predict that."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from worker.aws.sqs import Queue
from worker.domain.dead_letter import replays
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import AWSError, EditError, JournalError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.dry_run import UNCHECKED, Verdict
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import (
    Journal,
    Progress,
    SentDeadLetter,
    content_digest,
    digest,
)
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.scan import REPLAY_RETRIES, VISIBILITY_TIMEOUT_SECONDS, Scan
from worker.runtime.clock import utc_now
from worker.runtime.rate_limiter import RateLimiter
from worker.runtime.retry import retry_entries

# Minimum time between sending the last message of a slow batch and its becoming visible again.
_MARGIN_SECONDS: Final = 30.0
_NOTES_KEPT: Final = 20


class Result(StrEnum):
    """Result of the replay of one dead letter."""

    REPLAYED = "replayed"
    UNDELETED = "undeleted"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(slots=True)
class ReplayFigures:
    """Counts of a replay so far, including the earlier runs that it resumes.

    Attributes:
        matched: Dead letters that match the filters.
        replayed: Sent, confirmed and deleted from the dead-letter queue.
        undeleted: Sent and confirmed, but not deleted from the dead-letter queue.
        failed: Not sent; still in the dead-letter queue.
        skipped: Replayed too often before, or held back; still in the dead-letter queue.
        earlier: Those of `replayed` that an earlier run sent.
        missing: Requested ids that are not in the dead-letter queue.
        held_back: Those of `skipped` that would be dead-lettered again.
        unseen: Dead letters that the queue counts and did not return.
        last_error: Error of the last one that failed or was not deleted.
        notes: One line for each dead letter that was not sent, limited in number.
    """

    matched: int = 0
    replayed: int = 0
    undeleted: int = 0
    failed: int = 0
    skipped: int = 0
    earlier: int = 0
    missing: int = 0
    held_back: int = 0
    unseen: int = 0
    last_error: str = ""
    notes: list[str] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Return the main counts by name, for JSON."""
        counts = {each.value: getattr(self, each.value) for each in Result}
        return {"matched": self.matched, **counts}

    def note(self, dead_letter: DeadLetter, text: str) -> None:
        """Add a line about a dead letter unless the limit is reached."""
        if len(self.notes) < _NOTES_KEPT:
            self.notes.append(f"{dead_letter.message_id}: {text}")


class ReplayObserver:
    """Progress callbacks of a replay; no-ops by default."""

    def on_scanned(self, count: int) -> None:
        """Handle the number of dead letters scanned so far, whether they match or not."""

    def on_result(self, dead_letter: DeadLetter, result: Result, figures: ReplayFigures) -> None:
        """Handle the result of a dead letter that matches the filters."""

    def on_wait(self, until: datetime) -> None:
        """Handle the start of a wait for dead letters that a killed run keeps hidden."""


async def replay(
    source: Queue,
    dead_letters: Queue,
    filters: DeadLetterFilter,
    *,
    options: ReplayOptions | None = None,
    observer: ReplayObserver | None = None,
    now: Callable[[], datetime] = utc_now,
    visibility_timeout_seconds: int = VISIBILITY_TIMEOUT_SECONDS,
) -> ReplayFigures:
    """Send dead letters back to the source queue.

    A dead letter is deleted only after SQS has confirmed its message. An interruption at any moment
    loses nothing: at worst a message is in both queues, and the worker records the second one as a
    duplicate. With a journal, the next run deletes what this one has sent.

    Args:
        source: Destination of the messages.
        dead_letters: The dead-letter queue.
        filters: Which dead letters to replay.
        options: Rate, limits, edit and journal; all defaults if None.
        observer: Progress callbacks.
        now: Returns the current time, timezone-aware.
        visibility_timeout_seconds: How long a message stays hidden if the replay is killed.

    Returns:
        The counts.

    Raises:
        JournalError: The journal cannot be written.
    """
    options = options or ReplayOptions()
    if options.rate_per_second is not None:
        needed_seconds = 2 * BATCH_MAX_ENTRIES / options.rate_per_second + _MARGIN_SECONDS
        visibility_timeout_seconds = max(visibility_timeout_seconds, math.ceil(needed_seconds))
    run = _Run(
        source,
        dead_letters,
        filters,
        options,
        observer or ReplayObserver(),
        now,
        visibility_timeout_seconds,
    )
    return await run.run()


@dataclass
class _Run:
    """One run of a replay."""

    source: Queue
    dead_letters: Queue
    filters: DeadLetterFilter
    options: ReplayOptions
    observer: ReplayObserver
    now: Callable[[], datetime]
    visibility_timeout_seconds: int

    def __post_init__(self) -> None:
        self.figures = ReplayFigures()
        self.journal = self.options.journal or Journal()
        self.rate_limiter = RateLimiter(self.options.rate_per_second)
        self.scan = self._new_scan()
        self.scanned = 0
        self.sending: list[tuple[DeadLetter, OutgoingMessage]] = []
        self.sent_before: list[DeadLetter] = []
        self.handled: set[str] = set()
        self.dead_at: dict[str, datetime] = {}
        self.marks: set[str] = set()
        self.missing = set(self.filters.ids)

    def _new_scan(self) -> Scan:
        return Scan(
            self.dead_letters,
            now=self.now,
            visibility_timeout_seconds=self.visibility_timeout_seconds,
        )

    async def run(self) -> ReplayFigures:
        """Resume after earlier runs; replay all dead letters that match the filters."""
        clock = asyncio.get_running_loop().time
        earlier = self.journal.progress
        self._count_earlier(earlier.done.values())
        was_killed = earlier.hidden_until is not None
        visible_at = clock() + earlier.hidden_seconds(self.now())
        self.journal.begin(self.now(), self.visibility_timeout_seconds)
        try:
            await self._replay_scanned()
            if was_killed and not self._has_all():
                # The killed run may keep dead letters hidden.
                wait_seconds = max(0.0, visible_at - clock())
                self.observer.on_wait(self.now() + timedelta(seconds=wait_seconds))
                await asyncio.sleep(wait_seconds)
                await self._replay_scanned()
            self._count_as_deleted()
        except BaseException:
            with suppress(JournalError):
                self.journal.stop(self.now())
            raise
        self.journal.end(self.now())
        self.figures.missing = len(self.missing)
        self.figures.unseen = 0 if self._has_all() else self.scan.unseen
        return self.figures

    def _count_earlier(self, dead_letters: Iterable[SentDeadLetter]) -> None:
        """Count dead letters that an earlier run replayed."""
        for each in dead_letters:
            self.missing -= {each.message_id, each.original_id}
            self.figures.matched += 1
            self.figures.replayed += 1
            self.figures.earlier += 1

    def _count_as_deleted(self) -> None:
        """Count what an earlier run sent and is no longer in the queue as deleted.

        Only a scan that returned every message that the queue counts can show this.
        """
        if not self.scan.complete:
            return
        gone = self._not_seen()
        self.journal.deleted([each.message_id for each in gone], self.now())
        self._count_earlier(each for each in gone if each.to == self.journal.progress.to)

    def _not_seen(self) -> list[SentDeadLetter]:
        """Return what was sent, is not known to be deleted, and was not seen by this scan."""
        outstanding = self.journal.progress.outstanding.values()
        return [each for each in outstanding if not self.scan.has_seen(each.message_id)]

    def _has_all(self) -> bool:
        return self._is_full() or (bool(self.filters.ids) and not self.missing)

    def _is_full(self) -> bool:
        limit = self.filters.limit
        return limit is not None and self.figures.matched - self.figures.skipped >= limit

    async def _replay_scanned(self) -> None:
        if self._is_full():
            return
        self.scan = self._new_scan()
        async with self.scan:
            async for dead_letter in self.scan:
                self.scanned += 1
                self.observer.on_scanned(self.scanned)
                await self._process(dead_letter)
                if self._is_full() or (self._has_all() and not self._not_seen()):
                    break
            # Flush before the scan makes its messages visible again: SQS may ignore a receipt
            # handle whose visibility timeout has ended.
            await self._flush()

    async def _process(self, dead_letter: DeadLetter) -> None:
        """Add a dead letter to the batch, or leave it in the queue."""
        if dead_letter.message_id in self.handled:
            return
        was_sent = self.options.was_sent(dead_letter, self.journal.progress)
        if not was_sent and not self._is_new_match(dead_letter):
            return
        self.handled.add(dead_letter.message_id)
        self.missing -= {dead_letter.message_id, dead_letter.original_message_id}
        self.figures.matched += 1
        if was_sent:
            self.figures.earlier += 1
            await self._flush_unless_fits(0)
            self.sent_before.append(dead_letter)
        elif message := await self._prepared(dead_letter):
            await self._flush_unless_fits(message.size_bytes)
            self.sending.append((dead_letter, message))

    async def _prepared(self, dead_letter: DeadLetter) -> OutgoingMessage | None:
        """Return the message to send for a dead letter; None to leave it in the queue."""
        message, verdict = await _decide(dead_letter, self.options, self.now())
        if message is None:
            result = Result(verdict.code)
            if result is Result.FAILED:
                self.figures.last_error = verdict.detail
            self._leave(dead_letter, result, verdict.detail)
            return None
        if verdict.is_dead_end:
            self.figures.held_back += 1
            why = f"would be dead-lettered again: {verdict.code}: {verdict.detail}"
            self._leave(dead_letter, Result.SKIPPED, why)
            return None
        self.marks.update({replays(message).at} - {""})
        return message

    def _leave(self, dead_letter: DeadLetter, result: Result, why: str) -> None:
        self.figures.note(dead_letter, why)
        self._count_result(dead_letter, result)

    def _count_result(self, dead_letter: DeadLetter, result: Result) -> None:
        setattr(self.figures, result.value, getattr(self.figures, result.value) + 1)
        self.observer.on_result(dead_letter, result, self.figures)

    def _is_new_match(self, dead_letter: DeadLetter) -> bool:
        return self.filters.matches(dead_letter) and not self._came_back(dead_letter)

    def _came_back(self, dead_letter: DeadLetter) -> bool:
        """Return whether this run replayed the message and it was dead-lettered again.

        Without this check a replay would never end while a worker runs at the same time. The
        message has a mark of this run. If there was no space for a mark, the digest of the body
        identifies it, with the time of the first dead letter; SQS set both times.
        """
        if replays(dead_letter.message).at in self.marks:
            return True
        first = self.dead_at.setdefault(digest(dead_letter.message.body), dead_letter.dead_at)
        return first is not dead_letter.dead_at and dead_letter.sent_at >= first

    async def _flush_unless_fits(self, size_bytes: int) -> None:
        """Send the batch if it is full or a message of this size would exceed its limit."""
        entries = len(self.sending) + len(self.sent_before)
        batch_bytes = sum(message.size_bytes for _, message in self.sending)
        is_full = entries >= self.rate_limiter.batch_limit(BATCH_MAX_ENTRIES)
        if is_full or batch_bytes + size_bytes > MESSAGE_MAX_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        """Send the messages of the batch, then delete their dead letters."""
        sending, deleting = self.sending, self.sent_before
        self.sending, self.sent_before = [], []
        if sending:
            await self.rate_limiter.wait()
            self.rate_limiter.spend(len(sending))
        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)
        for (dead_letter, _), error in zip(sending, sent, strict=True):
            if error is None:
                deleting.append(dead_letter)
        deleted = await retry_entries(REPLAY_RETRIES, self._delete, deleting)
        errors = (str(error) for error in [*sent, *deleted] if error)
        self.figures.last_error = next(errors, self.figures.last_error)
        for (dead_letter, _), error in zip(sending, sent, strict=True):
            if error is not None:
                self._leave(dead_letter, Result.FAILED, f"not sent: {error}")
        for dead_letter, error in zip(deleting, deleted, strict=True):
            self._count_result(dead_letter, Result.UNDELETED if error else Result.REPLAYED)

    async def _send(
        self, entries: Sequence[tuple[DeadLetter, OutgoingMessage]]
    ) -> Sequence[AWSError | None]:
        errors = await self.source.send([message for _, message in entries])
        pairs = zip(entries, errors, strict=True)
        done = [_sent(*entry) for entry, error in pairs if not error]
        self.journal.sent(done, self.now())
        return errors

    async def _delete(self, dead_letters: Sequence[DeadLetter]) -> Sequence[AWSError | None]:
        # The scan may have received a newer receipt handle in the meantime.
        messages = [self.scan.newest(each.message) for each in dead_letters]
        errors = await self.dead_letters.delete(messages)
        pairs = zip(messages, errors, strict=True)
        done = [each.message_id for each, error in pairs if not error]
        self.scan.deleted(done)
        self.journal.deleted(done, self.now())
        return errors


def _sent(dead_letter: DeadLetter, message: OutgoingMessage) -> SentDeadLetter:
    return SentDeadLetter(
        dead_letter.message_id,
        dead_letter.original_message_id,
        digest(dead_letter.message.body),
        content_digest(message),
    )


async def replay_dry_run(
    scan: AsyncIterable[DeadLetter],
    filters: DeadLetterFilter,
    options: ReplayOptions,
    *,
    sent: Progress,
) -> AsyncIterator[tuple[DeadLetter, Verdict]]:
    """Yield each dead letter that a replay would process, with its verdict; send nothing.

    Args:
        scan: Dead letters of the queue, such as an open scan.
        filters: Which dead letters to process.
        options: Options of the replay, with a `dry_run`.
        sent: Messages that earlier runs sent.
    """
    count = 0
    async for dead_letter in scan:
        if options.was_sent(dead_letter, sent):
            verdict = Verdict("sent before", "sent by an earlier run; will only be deleted")
        elif filters.matches(dead_letter):
            _, verdict = await _decide(dead_letter, options, utc_now())
        else:
            continue
        yield dead_letter, verdict
        count += verdict.code != Result.SKIPPED
        if filters.limit is not None and count >= filters.limit:
            break


async def _decide(
    dead_letter: DeadLetter, options: ReplayOptions, at: datetime
) -> tuple[OutgoingMessage | None, Verdict]:
    """Return the message to send for a dead letter, and its predicted outcome.

    Without a message, the verdict is a `Result` and says why the dead letter stays in the queue.
    """
    reason = options.skip_reason(dead_letter)
    if reason:
        return None, Verdict(Result.SKIPPED.value, reason)
    try:
        message = options.prepare(dead_letter, at)
    except EditError as error:
        return None, Verdict(Result.FAILED.value, str(error))
    if options.dry_run is None:
        return message, Verdict(UNCHECKED)
    return message, await options.dry_run.predict(dead_letter, message)
