"""The dead-letter queue, looked at without taking anything."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Final

from worker.aws.sqs import Queue
from worker.domain.message import BATCH_MAX_ENTRIES, ReceivedMessage
from worker.errors import AWSError, AWSThrottledError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe

LOOK_SECONDS: Final = 120
# How long a scan goes on asking for what the queue reports and does not hand out.
RETRY_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 1
_EMPTY_POLLS: Final = 2
_QUICK_SECONDS: Final = 0.5


@dataclass(slots=True)
class Scan:
    """What one scan of a dead-letter queue saw, shared with whoever deletes what it returns.

    Attributes:
        ended: whether it went through the whole queue; False where it was left early.
        unseen: messages that the queue reports and did not hand out; known when it has ended.
    """

    ended: bool = False
    unseen: int = 0
    _handles: dict[str, str] = field(default_factory=dict)
    _deleted: set[str] = field(default_factory=set)

    @property
    def complete(self) -> bool:
        """Whether it saw every message that the queue reports."""
        return self.ended and not self.unseen

    @property
    def left(self) -> int:
        """Number of messages that it saw and that were not deleted."""
        return len(self._handles) - len(self._deleted)

    def has_seen(self, message_id: str) -> bool:
        """Return whether a message was received before."""
        return message_id in self._handles

    def has_deleted(self, message_id: str) -> bool:
        """Return whether a message was deleted during the scan."""
        return message_id in self._deleted

    def saw(self, messages: Iterable[ReceivedMessage]) -> None:
        """Take the newest receipt handles."""
        self._handles.update((each.message_id, each.receipt_handle) for each in messages)

    def deleted(self, message_ids: Iterable[str]) -> None:
        """Take note of confirmed deletes: these messages need not stay hidden."""
        self._deleted.update(message_ids)

    def newest(self, message: ReceivedMessage) -> ReceivedMessage:
        """Return a message with its newest receipt handle: an older one may delete nothing."""
        handle = self._handles.get(message.message_id, message.receipt_handle)
        return replace(message, receipt_handle=handle)


async def walk(
    queue: Queue,
    *,
    now: Callable[[], datetime],
    look_seconds: int = LOOK_SECONDS,
    at_end: Callable[[], Awaitable[None]] | None = None,
    polls: int = 1,
    scan: Scan | None = None,
    retry_seconds: float = RETRY_SECONDS,
) -> AsyncGenerator[DeadLetter, None]:
    """Scan a dead-letter queue once, hiding each message until the scan ends.

    Whatever is not deleted meanwhile is visible again when the iterator is closed: use it with
    `contextlib.aclosing`. The scan ends when a poll is empty and the queue reports nothing but what
    was seen. Where it reports more, polls are repeated for `retry_seconds`, and the rest is
    reported as unseen. It ends early where SQS hands out no more because too many are hidden.

    Args:
        queue: the dead-letter queue.
        now: gives the present time, aware.
        look_seconds: how long a message stays hidden if the scan is killed; extended while it runs.
        at_end: called after the last message, while all are hidden still.
        polls: how many are under way at most.
        scan: receives what was seen; whoever deletes a message reports it there.
        retry_seconds: how long to ask for messages that the queue reports and does not hand out.
    """
    state = await queue.state()
    scan = Scan() if scan is None else scan
    looking = _Looking(queue, scan, look_seconds, polls, retry_seconds=retry_seconds)
    try:
        while not looking.over:
            for message in await looking.more():
                yield describe(message, retention_seconds=state.retention_seconds, now=now())
        scan.ended = True
        if at_end is not None:
            await at_end()
    finally:
        await asyncio.shield(looking.show_again())


class _Looking:
    """The polls of one scan, and all that they hid.

    Args:
        queue: the dead-letter queue.
        scan: receives what was seen.
        look_seconds: how long a message stays hidden, unless it is extended.
        polls: how many are under way at most, and then how many calls that show them again.
        retry_seconds: how long to ask for messages that the queue reports and does not hand out.

    Attributes:
        over: whether nothing is left to see.
    """

    def __init__(
        self, queue: Queue, scan: Scan, look_seconds: int, polls: int, *, retry_seconds: float
    ) -> None:
        self.over = False
        self._queue = queue
        self._scan = scan
        self._look_seconds = look_seconds
        self._retry_seconds = retry_seconds
        self._most = polls
        # Every handle with when its time is over, the first one first.
        self._hidden: deque[tuple[float, ReceivedMessage]] = deque()
        # Each poll with when and in which turn it began: what began before the latest news, or
        # beside another empty poll, asked too early to tell that nothing is left.
        self._under_way: dict[asyncio.Task[list[ReceivedMessage]], tuple[float, int]] = {}
        self._clock = asyncio.get_running_loop().time
        self._turn = 0
        self._fruitless = 0
        self._fruitless_since = 0.0
        self._pausing = False
        self._is_limited = False
        self._fruitful = False
        self._closing = asyncio.Event()
        self._extending = asyncio.create_task(self._keep_hidden())

    async def more(self) -> list[ReceivedMessage]:
        """Wait for the next responses; return what they hold that was not seen yet."""
        wanted = self._most if self._fruitful else 1
        while not self._pausing and len(self._under_way) < wanted:
            polling = asyncio.create_task(
                self._queue.receive(
                    BATCH_MAX_ENTRIES,
                    wait_seconds=_POLL_SECONDS,
                    visibility_timeout_seconds=self._look_seconds,
                )
            )
            self._under_way[polling] = self._clock(), self._turn
            polling.add_done_callback(partial(self._hide, self._clock()))
        done, _ = await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        new = [each for polling in done for each in await self._take(polling)]
        if self._pausing and not self._under_way:
            await self._compare()
        return new

    async def _take(self, polling: asyncio.Task[list[ReceivedMessage]]) -> list[ReceivedMessage]:
        began, turn = self._under_way.pop(polling)
        try:
            messages = polling.result()
        except AWSThrottledError as error:
            if not (self._hidden and "OverLimit" in str(error)):
                raise
            self._pausing = self._is_limited = True
            return []
        # One response may hold a message twice.
        new = {
            each.message_id: each for each in messages if not self._scan.has_seen(each.message_id)
        }
        self._scan.saw(messages)
        await self._delete_again(messages)
        # More at once would only make a slow server slower.
        self._fruitful = bool(new) and self._clock() - began < _QUICK_SECONDS
        if new:
            self._fruitless = 0
            self._pausing = self._is_limited
            self._turn += 1
        elif turn == self._turn:
            self._turn += 1
            self._note_fruitless(is_empty=not messages)
        return list(new.values())

    def _note_fruitless(self, *, is_empty: bool) -> None:
        """Decide whether to compare: messages seen before do not show that nothing is left."""
        if not self._fruitless:
            self._fruitless_since = self._clock()
        self._fruitless += 1
        self._pausing = self._pausing or is_empty or self._has_waited()

    def _has_waited(self) -> bool:
        waited = self._clock() - self._fruitless_since >= self._retry_seconds
        return waited and self._fruitless >= _EMPTY_POLLS

    async def _compare(self) -> None:
        """Compare what was seen with what the queue reports; go on polling where that is more."""
        state = await self._queue.state()
        self._scan.unseen = max(0, state.depth - self._scan.left)
        self.over = self._is_limited or not self._scan.unseen or self._has_waited()
        self._pausing = self._is_limited

    async def _delete_again(self, messages: Sequence[ReceivedMessage]) -> None:
        """Delete what SQS hands out though it was deleted, as a standard queue may."""
        again = [each for each in messages if self._scan.has_deleted(each.message_id)]
        if again:
            with suppress(AWSError):
                await self._queue.delete(again)

    def _hide(self, began: float, polling: asyncio.Task[list[ReceivedMessage]]) -> None:
        """Keep hidden what a poll returned, at once: its consumer may come for it much later."""
        if polling.cancelled() or polling.exception() is not None:
            return
        # Every handle: of two that came side by side nobody knows the newer one, which shows it.
        # No body: a large queue must not fill the memory.
        until, messages = began + self._look_seconds, polling.result()
        self._hidden += [(until, replace(each, body="", attributes={})) for each in messages]

    async def _keep_hidden(self) -> None:
        """Extend what is hidden, however long the scan takes or its consumer is busy."""
        while not self._closing.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), self._look_seconds / 4)
            soon = self._clock() + self._look_seconds / 2
            await asyncio.gather(*(self._extend(soon) for _ in range(self._most)))

    async def _extend(self, soon: float) -> None:
        while not self._closing.is_set() and (batch := self._next_batch(soon)):
            until = self._clock() + self._look_seconds
            # An entry that fails shows itself to the next poll, which hides it again.
            with suppress(AWSError):
                await self._queue.change_visibility(
                    [(each, float(self._look_seconds)) for each in batch]
                )
            self._hidden += [(until, each) for each in batch]

    def _next_batch(self, soon: float) -> list[ReceivedMessage]:
        """Take up to ten messages whose time is over soon, those that were deleted left out."""
        batch: list[ReceivedMessage] = []
        while self._hidden and self._hidden[0][0] < soon and len(batch) < BATCH_MAX_ENTRIES:
            _, message = self._hidden.popleft()
            if not self._scan.has_deleted(message.message_id):
                batch.append(message)
        return batch

    async def show_again(self) -> None:
        """Let everything be visible at once that was hidden, by polls under way too."""
        self._closing.set()
        # An extension that lands later would hide again what is shown now.
        await self._extending
        await asyncio.gather(*self._under_way, return_exceptions=True)

        async def show() -> None:
            while batch := self._next_batch(math.inf):
                # An entry that fails was deleted meanwhile, or shows itself when its time is over.
                with suppress(AWSError):
                    await self._queue.change_visibility([(each, 0.0) for each in batch])

        await asyncio.gather(*(show() for _ in range(self._most)))
