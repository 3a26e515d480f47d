"""Replay of dead letters: send each to the source queue, then delete it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.aws.sqs import Queue
from worker.domain.dead_letter import replays
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import AWSError, EditError, JournalError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import (
    Journal,
    Progress,
    SentDeadLetter,
    content_digest,
    digest,
)
from worker.operations.dead_letters.replay_dry_run import predict
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.replay_progress import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.scan import (
    REPLAY_RETRIES,
    VISIBILITY_TIMEOUT_SECONDS,
    Scan,
    scan_dead_letters,
)
from worker.runtime.clock import utc_now
from worker.runtime.retry import retry_entries

# Minimum time between sending the last message of a slow batch and its becoming visible again.
_MARGIN_SECONDS: Final = 30.0


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
    run = _Run(
        source, dead_letters, filters, options, observer=observer or ReplayObserver(), now=now
    )
    if options.rate_per_second is not None:
        needed_seconds = 2 * BATCH_MAX_ENTRIES / options.rate_per_second + _MARGIN_SECONDS
        visibility_timeout_seconds = max(visibility_timeout_seconds, math.ceil(needed_seconds))
    return await run.run(visibility_timeout_seconds)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A dead letter and the message to send for it; None if it was sent before."""

    dead_letter: DeadLetter
    message: OutgoingMessage | None

    @property
    def size_bytes(self) -> int:
        return 0 if self.message is None else self.message.size_bytes


class _Run:
    """One run of a replay."""

    def __init__(
        self,
        source: Queue,
        dead_letters: Queue,
        filters: DeadLetterFilter,
        options: ReplayOptions,
        *,
        observer: ReplayObserver,
        now: Callable[[], datetime],
    ) -> None:
        self.figures = ReplayFigures()
        self._source = source
        self._dead_letters = dead_letters
        self._filters = filters
        self._options = options
        self._sent = Progress() if options.journal is None else options.journal.progress
        self._observer = observer
        self._scanned = 0
        self._scan = Scan()
        self._now = now
        self._batch: list[_Entry] = []
        self._batch_bytes = 0
        self._handled: set[str] = set()
        self._dead_at: dict[str, datetime] = {}
        self._marks: set[str] = set()
        self._missing = set(filters.ids)
        self._next_at = asyncio.get_running_loop().time()

    async def run(self, visibility_timeout_seconds: int) -> ReplayFigures:
        """Replay all dead letters that match the filters."""
        if self._options.journal is None:
            await self._replay_scanned(visibility_timeout_seconds)
        else:
            await self._run_with_journal(self._options.journal, visibility_timeout_seconds)
        self.figures.missing = len(self._missing)
        self.figures.unseen = 0 if self._has_all() else self._scan.unseen
        return self.figures

    async def _run_with_journal(self, journal: Journal, visibility_timeout_seconds: int) -> None:
        """Resume after earlier runs; wait for dead letters that a killed run keeps hidden."""
        self._count_earlier(journal.progress.done.values())
        hidden_until = journal.progress.hidden_until
        hidden_seconds = journal.progress.hidden_seconds(self._now())
        loop = asyncio.get_running_loop()
        hidden_at = loop.time()
        journal.begin(self._now(), visibility_timeout_seconds)
        try:
            await self._replay_scanned(visibility_timeout_seconds)
            if hidden_until is not None and not self._has_all():
                wait_seconds = max(0.0, hidden_at + hidden_seconds - loop.time())
                self._observer.on_wait(self._now() + timedelta(seconds=wait_seconds))
                await asyncio.sleep(wait_seconds)
                await self._replay_scanned(visibility_timeout_seconds)
            self._count_as_deleted(journal)
        except BaseException:
            with suppress(JournalError):
                journal.stop(self._now())
            raise
        journal.end(self._now())

    def _count_earlier(self, dead_letters: Iterable[SentDeadLetter]) -> None:
        """Count dead letters that an earlier run replayed."""
        for each in dead_letters:
            self._missing -= {each.message_id, each.original_id}
            self.figures.matched += 1
            self.figures.replayed += 1
            self.figures.earlier += 1

    def _count_as_deleted(self, journal: Journal) -> None:
        """Count what an earlier run sent and is no longer in the queue as deleted.

        Only a scan that returned every message that the queue counts can show this.
        """
        if not self._scan.complete:
            return
        gone = self._not_seen()
        journal.deleted([each.message_id for each in gone], self._now())
        self._count_earlier(each for each in gone if each.to == journal.progress.to)

    def _not_seen(self) -> list[SentDeadLetter]:
        """Return what was sent, is not known to be deleted, and was not seen by this scan."""
        outstanding = self._sent.outstanding.values()
        return [each for each in outstanding if not self._scan.has_seen(each.message_id)]

    def _has_all(self) -> bool:
        return self._is_full() or (bool(self._filters.ids) and not self._missing)

    def _is_full(self) -> bool:
        limit = self._filters.limit
        return limit is not None and self.figures.matched - self.figures.skipped >= limit

    async def _replay_scanned(self, visibility_timeout_seconds: int) -> None:
        if self._is_full():
            return
        # Flush before the scan makes its messages visible again: SQS may ignore a receipt handle
        # whose visibility timeout has ended.
        self._scan = Scan()
        scanning = scan_dead_letters(
            self._dead_letters,
            now=self._now,
            visibility_timeout_seconds=visibility_timeout_seconds,
            at_end=self._flush,
            scan=self._scan,
        )
        async with aclosing(scanning) as dead_letters:
            async for dead_letter in dead_letters:
                self._scanned += 1
                self._observer.on_scanned(self._scanned)
                entry = await self._entry(dead_letter)
                if entry is not None:
                    await self._add(entry)
                if self._is_full() or (self._has_all() and not self._not_seen()):
                    break
            await self._flush()

    async def _entry(self, dead_letter: DeadLetter) -> _Entry | None:
        """Return what to do with a dead letter; None to leave it in the queue."""
        if dead_letter.message_id in self._handled:
            return None
        if self._options.was_sent(dead_letter, self._sent):
            self._count_match(dead_letter)
            self.figures.earlier += 1
            return _Entry(dead_letter, None)
        if not self._filters.matches(dead_letter) or self._came_back(dead_letter):
            return None
        self._count_match(dead_letter)
        return await self._prepared(dead_letter)

    async def _prepared(self, dead_letter: DeadLetter) -> _Entry | None:
        """Return the message to send for a dead letter; None to leave it in the queue."""
        reason = self._options.skip_reason(dead_letter)
        if reason:
            self._leave(dead_letter, Result.SKIPPED, reason)
            return None
        try:
            message = self._options.prepare(dead_letter, self._now())
        except EditError as error:
            self.figures.last_error = str(error)
            self._leave(dead_letter, Result.FAILED, str(error))
            return None
        if await self._hold_back(dead_letter, message):
            return None
        self._marks.update({replays(message).at} - {""})
        return _Entry(dead_letter, message)

    async def _hold_back(self, dead_letter: DeadLetter, message: OutgoingMessage) -> bool:
        """Leave a dead letter in the queue if its message would be dead-lettered again."""
        if self._options.dry_run is None:
            return False
        verdict = await predict(dead_letter, message, self._options.dry_run)
        if verdict.is_dead_end:
            self.figures.held_back += 1
            why = f"would be dead-lettered again: {verdict.code}: {verdict.detail}"
            self._leave(dead_letter, Result.SKIPPED, why)
        return verdict.is_dead_end

    def _count_match(self, dead_letter: DeadLetter) -> None:
        self._handled.add(dead_letter.message_id)
        self._missing -= {dead_letter.message_id, dead_letter.original_message_id}
        self.figures.matched += 1

    def _leave(self, dead_letter: DeadLetter, result: Result, why: str) -> None:
        self.figures.note(dead_letter, why)
        self._count_result(dead_letter, result)

    def _came_back(self, dead_letter: DeadLetter) -> bool:
        """Return whether this run replayed the message and it was dead-lettered again.

        Without this check a replay would never end while a worker runs at the same time. The
        message has a mark of this run. If there was no space for a mark, the digest of the body
        identifies it, with the time of the first dead letter; SQS set both times.
        """
        if replays(dead_letter.message).at in self._marks:
            return True
        first = self._dead_at.setdefault(digest(dead_letter.message.body), dead_letter.dead_at)
        return first is not dead_letter.dead_at and dead_letter.sent_at >= first

    async def _add(self, entry: _Entry) -> None:
        rate = self._options.rate_per_second
        # A low rate sends smaller batches instead of ten messages at once.
        limit = BATCH_MAX_ENTRIES if rate is None else max(1, min(BATCH_MAX_ENTRIES, int(rate)))
        full = len(self._batch) >= limit
        if self._batch and (full or self._batch_bytes + entry.size_bytes > MESSAGE_MAX_BYTES):
            await self._flush()
        self._batch.append(entry)
        self._batch_bytes += entry.size_bytes

    async def _flush(self) -> None:
        batch, self._batch, self._batch_bytes = self._batch, [], 0
        if not batch:
            return
        sending = [each for each in batch if each.message is not None]
        await self._pace(len(sending))
        sent = await retry_entries(REPLAY_RETRIES, self._send, sending)
        confirmed = [entry for entry, error in zip(sending, sent, strict=True) if error is None]
        sent_before = [each for each in batch if each.message is None]
        deleting = [*sent_before, *confirmed]
        deleted = await retry_entries(REPLAY_RETRIES, self._delete, deleting)
        errors = (str(error) for error in [*sent, *deleted] if error)
        self.figures.last_error = next(errors, self.figures.last_error)
        for entry, error in zip(sending, sent, strict=True):
            if error is not None:
                self._leave(entry.dead_letter, Result.FAILED, f"not sent: {error}")
        for entry, error in zip(deleting, deleted, strict=True):
            result = Result.UNDELETED if error else Result.REPLAYED
            self._count_result(entry.dead_letter, result)

    def _count_result(self, dead_letter: DeadLetter, result: Result) -> None:
        setattr(self.figures, result.value, getattr(self.figures, result.value) + 1)
        self._observer.on_result(dead_letter, result, self.figures)

    async def _pace(self, count: int) -> None:
        rate = self._options.rate_per_second
        if rate is None:
            return
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._next_at - clock()))
        self._next_at = max(self._next_at, clock()) + count / rate

    async def _send(self, entries: Sequence[_Entry]) -> Sequence[AWSError | None]:
        messages = [each.message for each in entries if each.message is not None]
        errors = await self._source.send(messages)
        journal = self._options.journal
        if journal is not None:
            done = [each for each, error in zip(entries, errors, strict=True) if not error]
            journal.sent(map(_sent, done), self._now())
        return errors

    async def _delete(self, entries: Sequence[_Entry]) -> Sequence[AWSError | None]:
        # The scan may have received a newer receipt handle in the meantime.
        messages = [self._scan.newest(each.dead_letter.message) for each in entries]
        errors = await self._dead_letters.delete(messages)
        pairs = zip(messages, errors, strict=True)
        done = [each.message_id for each, error in pairs if not error]
        self._scan.deleted(done)
        if self._options.journal is not None:
            self._options.journal.deleted(done, self._now())
        return errors


def _sent(entry: _Entry) -> SentDeadLetter:
    dead_letter, message = entry.dead_letter, entry.message
    content = "" if message is None else content_digest(message)
    body = digest(dead_letter.message.body)
    return SentDeadLetter(dead_letter.message_id, dead_letter.original_message_id, body, content)
