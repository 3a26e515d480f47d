"""Dead letters sent back to where they came from, none lost on the way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from worker.aws.sqs import Queue
from worker.domain.dead_letter import replays
from worker.domain.message import BATCH_MAX_ENTRIES, MESSAGE_MAX_BYTES, OutgoingMessage
from worker.errors import AWSError, EditError, JournalError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.operations.dead_letters.journal import Journal, Progress, Sent, content_digest, digest
from worker.operations.dead_letters.replay_dry_run import predict
from worker.operations.dead_letters.replay_options import ReplayOptions
from worker.operations.dead_letters.replay_progress import ReplayFigures, ReplayObserver, Result
from worker.operations.dead_letters.retrying import patiently
from worker.operations.dead_letters.scan import LOOK_SECONDS, Scan, walk

# Of what a slow replay has taken, the last leaves this long before it shows itself again.
_MARGIN_SECONDS: Final = 30.0


def _now() -> datetime:
    return datetime.now(UTC)


async def replay(
    source: Queue,
    dead_letters: Queue,
    choice: DeadLetterFilter,
    *,
    how: ReplayOptions | None = None,
    watcher: ReplayObserver | None = None,
    now: Callable[[], datetime] = _now,
    look_seconds: int = LOOK_SECONDS,
) -> ReplayFigures:
    """Send dead letters back to where they came from.

    Each entry is sent, its confirmation verified, and deleted from the dead letters only then. An
    interruption at any moment loses nothing: at worst a message is in both queues, and the worker
    finds the second one recorded. With a journal, the next run deletes what this one has sent.

    Args:
        source: where they go.
        dead_letters: where they are.
        choice: which.
        how: as they are, at once and any number of times, if absent.
        watcher: told how it goes on.
        now: gives the present time, aware.
        look_seconds: how long a message stays hidden if the replay is killed.

    Raises:
        JournalError: the journal cannot be written.
    """
    how = how or ReplayOptions()
    run = _Run(source, dead_letters, choice, how, watcher=watcher or ReplayObserver(), now=now)
    if how.rate_per_second is not None:
        taken_seconds = 2 * BATCH_MAX_ENTRIES / how.rate_per_second
        look_seconds = max(look_seconds, math.ceil(taken_seconds + _MARGIN_SECONDS))
    return await run.run(look_seconds)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A dead letter and what to send for it; nothing, where that was done before."""

    letter: DeadLetter
    message: OutgoingMessage | None

    @property
    def size_bytes(self) -> int:
        return 0 if self.message is None else self.message.size_bytes


class _Run:
    """One run through the dead letters."""

    def __init__(
        self,
        source: Queue,
        dead_letters: Queue,
        choice: DeadLetterFilter,
        how: ReplayOptions,
        *,
        watcher: ReplayObserver,
        now: Callable[[], datetime],
    ) -> None:
        self.figures = ReplayFigures()
        self._source = source
        self._dead_letters = dead_letters
        self._choice = choice
        self._how = how
        self._sent = Progress() if how.journal is None else how.journal.progress
        self._watcher = watcher
        self._seen = 0
        self._scan = Scan()
        self._now = now
        self._batch: list[_Entry] = []
        self._batch_bytes = 0
        self._handled: set[str] = set()
        self._died_at: dict[str, datetime] = {}
        self._marks: set[str] = set()
        self._missing = set(choice.ids)
        self._next_at = asyncio.get_running_loop().time()

    async def run(self, look_seconds: int) -> ReplayFigures:
        """Replay all that is chosen."""
        if self._how.journal is None:
            await self._walk(look_seconds)
        else:
            await self._run_noting(self._how.journal, look_seconds)
        self.figures.missing = len(self._missing)
        self.figures.unseen = 0 if self._has_all() else self._scan.unseen
        return self.figures

    async def _run_noting(self, journal: Journal, look_seconds: int) -> None:
        """Go on where earlier runs ended, and wait for what one that was killed keeps hidden."""
        self._count_earlier(journal.progress.done.values())
        hidden_until = journal.progress.hidden_until
        hidden_seconds = journal.progress.hidden_seconds(self._now())
        loop = asyncio.get_running_loop()
        hidden_at = loop.time()
        journal.begin(self._now(), look_seconds)
        try:
            await self._walk(look_seconds)
            if hidden_until is not None and not self._has_all():
                wait_seconds = max(0.0, hidden_at + hidden_seconds - loop.time())
                self._watcher.waits(self._now() + timedelta(seconds=wait_seconds))
                await asyncio.sleep(wait_seconds)
                await self._walk(look_seconds)
            self._take_for_deleted(journal)
        except BaseException:
            with suppress(JournalError):
                journal.stop(self._now())
            raise
        journal.end(self._now())

    def _count_earlier(self, letters: Iterable[Sent]) -> None:
        """Enter what an earlier run has replayed."""
        for each in letters:
            self._missing -= {each.message_id, each.original_id}
            self.figures.matched += 1
            self.figures.replayed += 1
            self.figures.earlier += 1

    def _take_for_deleted(self, journal: Journal) -> None:
        """Enter what was sent and is no dead letter any more: its delete had arrived.

        Only a scan that saw all that the queue reports can tell that.
        """
        if not self._scan.complete:
            return
        gone = self._unhandled()
        journal.deleted([each.message_id for each in gone], self._now())
        self._count_earlier(each for each in gone if each.to == journal.progress.to)

    def _unhandled(self) -> list[Sent]:
        """Return what was sent and not noted as deleted, as far as this scan has not seen it."""
        outstanding = self._sent.outstanding.values()
        return [each for each in outstanding if not self._scan.has_seen(each.message_id)]

    def _has_all(self) -> bool:
        return self._is_full() or (bool(self._choice.ids) and not self._missing)

    def _is_full(self) -> bool:
        limit = self._choice.limit
        return limit is not None and self.figures.matched - self.figures.skipped >= limit

    async def _walk(self, look_seconds: int) -> None:
        if self._is_full():
            return
        # The last batch leaves before the walk shows its messages again: a handle whose visibility
        # has ended may delete nothing.
        self._scan = Scan()
        walking = walk(
            self._dead_letters,
            now=self._now,
            look_seconds=look_seconds,
            at_end=self._flush,
            scan=self._scan,
        )
        async with aclosing(walking) as letters:
            async for letter in letters:
                self._seen += 1
                self._watcher.saw(self._seen)
                entry = await self._entry(letter)
                if entry is not None:
                    await self._add(entry)
                if self._is_full() or (self._has_all() and not self._unhandled()):
                    break
            await self._flush()

    async def _entry(self, letter: DeadLetter) -> _Entry | None:
        """Say what to do with a dead letter; nothing, if it is not chosen or cannot be sent."""
        if letter.message_id in self._handled:
            return None
        if self._how.was_sent(letter, self._sent):
            self._match(letter)
            self.figures.earlier += 1
            return _Entry(letter, None)
        if not self._choice.matches(letter) or self._is_back(letter):
            return None
        self._match(letter)
        return await self._prepared(letter)

    async def _prepared(self, letter: DeadLetter) -> _Entry | None:
        """Return what to send for a dead letter; None if it stays where it is."""
        reason = self._how.too_often(letter)
        if reason:
            self._refuse(letter, Result.SKIPPED, reason)
            return None
        try:
            message = self._how.prepare(letter, self._now())
        except EditError as error:
            self.figures.last_error = str(error)
            self._refuse(letter, Result.FAILED, str(error))
            return None
        if await self._hold_back(letter, message):
            return None
        self._marks.update({replays(message).at} - {""})
        return _Entry(letter, message)

    async def _hold_back(self, letter: DeadLetter, message: OutgoingMessage) -> bool:
        """Leave a dead letter where it is if its message would be dead-lettered again."""
        if self._how.forecast is None:
            return False
        verdict = await predict(letter, message, self._how.forecast)
        if verdict.is_dead_end:
            self.figures.held_back += 1
            why = f"would be dead-lettered again: {verdict.code}: {verdict.detail}"
            self._refuse(letter, Result.SKIPPED, why)
        return verdict.is_dead_end

    def _match(self, letter: DeadLetter) -> None:
        self._handled.add(letter.message_id)
        self._missing -= {letter.message_id, letter.original_message_id}
        self.figures.matched += 1

    def _refuse(self, letter: DeadLetter, result: Result, why: str) -> None:
        self.figures.note(letter, why)
        self._enter(letter, result)

    def _is_back(self, letter: DeadLetter) -> bool:
        """Say whether it died again of being replayed: beside a quick worker there were no end.

        It bears a mark of this run. Where that found no room, what died first is remembered by
        its body's digest; both times are SQS's own.
        """
        if replays(letter.message).at in self._marks:
            return True
        before = self._died_at.setdefault(digest(letter.message.body), letter.dead_at)
        return before is not letter.dead_at and letter.sent_at >= before

    async def _add(self, entry: _Entry) -> None:
        rate = self._how.rate_per_second
        # A slow rate sends smaller batches rather than ten at once.
        most = BATCH_MAX_ENTRIES if rate is None else max(1, min(BATCH_MAX_ENTRIES, int(rate)))
        full = len(self._batch) >= most
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
        sent = await patiently(self._send, sending)
        confirmed = [entry for entry, error in zip(sending, sent, strict=True) if error is None]
        sent_before = [each for each in batch if each.message is None]
        deleting = [*sent_before, *confirmed]
        deleted = await patiently(self._delete, deleting)
        errors = (str(error) for error in [*sent, *deleted] if error)
        self.figures.last_error = next(errors, self.figures.last_error)
        for entry, error in zip(sending, sent, strict=True):
            if error is not None:
                self.figures.note(entry.letter, f"not sent: {error}")
                self._enter(entry.letter, Result.FAILED)
        for entry, error in zip(deleting, deleted, strict=True):
            self._enter(entry.letter, Result.UNDELETED if error else Result.REPLAYED)

    def _enter(self, letter: DeadLetter, result: Result) -> None:
        setattr(self.figures, result.value, getattr(self.figures, result.value) + 1)
        self._watcher.entered(letter, result, self.figures)

    async def _pace(self, count: int) -> None:
        rate = self._how.rate_per_second
        if rate is None:
            return
        clock = asyncio.get_running_loop().time
        await asyncio.sleep(max(0.0, self._next_at - clock()))
        self._next_at = max(self._next_at, clock()) + count / rate

    async def _send(self, entries: Sequence[_Entry]) -> Sequence[AWSError | None]:
        messages = [each.message for each in entries if each.message is not None]
        answers = await self._source.send(messages)
        if self._how.journal is not None:
            done = [each for each, error in zip(entries, answers, strict=True) if not error]
            self._how.journal.sent(map(_noted, done), self._now())
        return answers

    async def _delete(self, entries: Sequence[_Entry]) -> Sequence[AWSError | None]:
        # A scan that went on meanwhile may have got a newer handle.
        messages = [self._scan.newest(each.letter.message) for each in entries]
        answers = await self._dead_letters.delete(messages)
        pairs = zip(messages, answers, strict=True)
        done = [each.message_id for each, error in pairs if not error]
        self._scan.deleted(done)
        if self._how.journal is not None:
            self._how.journal.deleted(done, self._now())
        return answers


def _noted(entry: _Entry) -> Sent:
    letter, message = entry.letter, entry.message
    content = "" if message is None else content_digest(message)
    body = digest(letter.message.body)
    return Sent(letter.message_id, letter.original_message_id, body, content)
