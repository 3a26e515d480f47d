"""Scan of the dead-letter queue that leaves every message in place."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Final, Self

from msgspec.structs import replace

from worker.aws.sqs import Queue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.errors import AWSError, AWSThrottledError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.runtime.retry import RetryPolicy

VISIBILITY_TIMEOUT_SECONDS: Final = 120
# How long to poll for messages that the queue counts but does not return.
RETRY_SECONDS: Final = 10.0
# For the sends and deletes of a replay and the deletes of a purge.
REPLAY_RETRIES: Final = RetryPolicy(attempts=5, base_seconds=0.4, cap_seconds=5.0)
_POLL_SECONDS: Final = 1
_EMPTY_POLLS: Final = 2
# More concurrent polls would not make a scan faster, and would hide more messages at a time.
MAX_POLLS: Final = 8
_FAST_POLL_SECONDS: Final = 0.5


class Scan:
    """Iterator over the dead letters that hides each until its `async with` block ends.

    Each dead letter is returned once. Messages that were not deleted become visible again at the
    end of the block. The scan ends when a poll is empty and the queue counts no other messages than
    those already returned. If it counts more, polls are repeated for `retry_seconds`, and the rest
    is reported as unseen. The scan ends early if SQS returns no more messages because too many are
    in flight.

    Args:
        queue: The dead-letter queue.
        now: Returns the current time, timezone-aware.
        visibility_timeout_seconds: How long a message stays hidden if the scan is killed; extended
            while the scan runs.
        polls: Maximum number of concurrent polls, at most `MAX_POLLS`, and of concurrent calls that
            make messages visible again.
        retry_seconds: How long to poll for messages that the queue counts but does not return;
            `RETRY_SECONDS` by default.

    Attributes:
        complete: Whether the scan returned every message that the queue counts; False if it was
            left early.
        unseen: Messages that the queue counts and did not return; known once the scan has ended.
    """

    def __init__(
        self,
        queue: Queue,
        *,
        now: Callable[[], datetime],
        visibility_timeout_seconds: int = VISIBILITY_TIMEOUT_SECONDS,
        polls: int = 1,
        retry_seconds: float | None = None,
    ) -> None:
        self.complete = False
        self.unseen = 0
        self._queue = queue
        self._now = now
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._retry_seconds = RETRY_SECONDS if retry_seconds is None else retry_seconds
        self._polls_max = min(polls, MAX_POLLS)
        self._new: deque[ReceivedMessage] = deque()
        self._handles: dict[str, str] = {}
        self._deleted: set[str] = set()
        # Every receipt handle with the end of its visibility timeout, the earliest first.
        self._hidden: deque[tuple[float, ReceivedMessage]] = deque()
        # Start and turn of each poll. A poll that started before the latest new message, or at the
        # same time as another empty poll, started too early to show that nothing is left.
        self._polling: dict[asyncio.Task[list[ReceivedMessage]], tuple[float, int]] = {}
        self._clock = asyncio.get_running_loop().time
        self._turn = 0
        self._polls_without_news = 0
        self._without_news_since = 0.0
        self._pausing = False
        self._is_limited = False
        self._is_fast = False
        self._is_done = False
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        """Read the retention period of the queue and start to extend visibility timeouts."""
        self._retention_seconds = (await self._queue.state()).retention_seconds
        self._extending = asyncio.create_task(self._keep_hidden())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Make all hidden messages visible again."""
        await asyncio.shield(self._release())

    def __aiter__(self) -> Self:
        """Return the scan itself."""
        return self

    async def __anext__(self) -> DeadLetter:
        """Return the next dead letter; poll until there is one or the scan ends."""
        while not self._new:
            if self._is_done:
                self.complete = not self.unseen
                raise StopAsyncIteration
            await self._next_poll()
        return describe(
            self._new.popleft(), retention_seconds=self._retention_seconds, now=self._now()
        )

    def has_seen(self, message_id: str) -> bool:
        """Return whether a message was received before."""
        return message_id in self._handles

    def deleted(self, message_ids: Iterable[str]) -> None:
        """Store confirmed deletes; these messages need not stay hidden."""
        self._deleted.update(message_ids)

    def newest(self, message: ReceivedMessage) -> ReceivedMessage:
        """Return a message with its newest receipt handle; SQS may ignore older ones."""
        return replace(message, receipt_handle=self._handles[message.message_id])

    async def _next_poll(self) -> None:
        """Wait for a poll to return; add the messages that were not returned before."""
        wanted = self._polls_max if self._is_fast else 1
        while not self._pausing and len(self._polling) < wanted:
            poll = asyncio.create_task(
                self._queue.receive(
                    BATCH_MAX_ENTRIES,
                    wait_seconds=_POLL_SECONDS,
                    visibility_timeout_seconds=self._visibility_timeout_seconds,
                )
            )
            self._polling[poll] = self._clock(), self._turn
            poll.add_done_callback(partial(self._hide, self._clock()))
        done, _ = await asyncio.wait(self._polling, return_when=asyncio.FIRST_COMPLETED)
        for poll in done:
            await self._finish(poll)
        if self._pausing and not self._polling:
            await self._compare()

    async def _finish(self, poll: asyncio.Task[list[ReceivedMessage]]) -> None:
        started_at, turn = self._polling.pop(poll)
        try:
            messages = poll.result()
        except AWSThrottledError as error:
            if not (self._hidden and "OverLimit" in str(error)):
                raise
            self._pausing = self._is_limited = True
            return
        # One response may contain a message twice.
        new = {each.message_id: each for each in messages if not self.has_seen(each.message_id)}
        self._new += new.values()
        self._handles.update((each.message_id, each.receipt_handle) for each in messages)
        await self._delete_again(messages)
        # More concurrent polls would make a slow server slower.
        self._is_fast = bool(new) and self._clock() - started_at < _FAST_POLL_SECONDS
        if new:
            self._polls_without_news = 0
            self._pausing = self._is_limited
            self._turn += 1
        elif turn == self._turn:
            self._turn += 1
            self._note_no_news(is_empty=not messages)

    def _note_no_news(self, *, is_empty: bool) -> None:
        """Decide whether to compare: messages seen before do not show that nothing is left."""
        if not self._polls_without_news:
            self._without_news_since = self._clock()
        self._polls_without_news += 1
        self._pausing = self._pausing or is_empty or self._has_waited()

    def _has_waited(self) -> bool:
        waited = self._clock() - self._without_news_since >= self._retry_seconds
        return waited and self._polls_without_news >= _EMPTY_POLLS

    async def _compare(self) -> None:
        """Compare the messages returned with the queue's depth; poll again if that is larger."""
        state = await self._queue.state()
        remaining = len(self._handles) - len(self._deleted)
        self.unseen = max(0, state.depth - remaining)
        self._is_done = self._is_limited or not self.unseen or self._has_waited()
        self._pausing = self._is_limited

    async def _delete_again(self, messages: Sequence[ReceivedMessage]) -> None:
        """Delete messages that were deleted before; a standard queue may return them again."""
        again = [each for each in messages if each.message_id in self._deleted]
        if again:
            with suppress(AWSError):
                await self._queue.delete(again)

    def _hide(self, started_at: float, poll: asyncio.Task[list[ReceivedMessage]]) -> None:
        """Register the messages of a poll for extension at once; its consumer may be busy."""
        if poll.cancelled() or poll.exception() is not None:
            return
        # Keep every handle: of two received at the same time, either may be the newer one. Drop the
        # body, so that a large queue does not fill the memory.
        until, messages = started_at + self._visibility_timeout_seconds, poll.result()
        self._hidden += [(until, replace(each, body="", attributes={})) for each in messages]

    async def _keep_hidden(self) -> None:
        """Extend the visibility timeout of hidden messages until the scan ends."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._visibility_timeout_seconds / 4)
            soon = self._clock() + self._visibility_timeout_seconds / 2
            await asyncio.gather(*(self._extend(soon) for _ in range(self._polls_max)))

    async def _extend(self, soon: float) -> None:
        while not self._closing.is_set() and (batch := self._next_batch(soon)):
            until = self._clock() + self._visibility_timeout_seconds
            # A message whose extension fails is received again by a later poll.
            with suppress(AWSError):
                await self._queue.change_visibility(
                    [(each, float(self._visibility_timeout_seconds)) for each in batch]
                )
            self._hidden += [(until, each) for each in batch]

    def _next_batch(self, soon: float) -> list[ReceivedMessage]:
        """Return up to ten messages that become visible before `soon`, without deleted ones."""
        batch: list[ReceivedMessage] = []
        while self._hidden and self._hidden[0][0] < soon and len(batch) < BATCH_MAX_ENTRIES:
            _, message = self._hidden.popleft()
            if message.message_id not in self._deleted:
                batch.append(message)
        return batch

    async def _release(self) -> None:
        """Make all hidden messages visible again, including those of polls in progress."""
        self._closing.set()
        # A late extension would hide the messages again.
        await self._extending
        await asyncio.gather(*self._polling, return_exceptions=True)

        async def make_visible() -> None:
            while batch := self._next_batch(math.inf):
                # An entry that fails was deleted, or becomes visible when its timeout ends.
                with suppress(AWSError):
                    await self._queue.change_visibility([(each, 0.0) for each in batch])

        await asyncio.gather(*(make_visible() for _ in range(self._polls_max)))
