"""Scans of the dead-letter queue, shared by all viewers of the console."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from worker.aws.sqs import Queue
from worker.aws.sqs_responses import QueueState
from worker.console.packing import Packer
from worker.errors import AUPError, UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter
from worker.operations.dead_letters.scan import VISIBILITY_TIMEOUT_SECONDS, Scan
from worker.operations.status.observer import (
    REDRIVEN,
    SCAN_AFTER_CHANGE_SECONDS,
    SCAN_INTERVAL_SECONDS,
    ReasonCounts,
)
from worker.runtime.clock import utc_now
from worker.runtime.time_limit import time_limit

# The interval of `status --watch`.
STATE_INTERVAL_SECONDS: Final = 2.0
# A scan hides dead letters from everybody else, so most of the time there must be none.
_PAUSE_PER_SCAN_SECOND: Final = 4.0
# Compressed bodies and attributes that are kept; others are received again when needed.
CONTENT_MAX_BYTES: Final = 6 * 1024 * 1024
_BATCH: Final = 200
_PATTERNS_MAX: Final = 4
# For the search for one regular expression in all dead letters, which blocks the event loop.
_SEARCH_SECONDS: Final = 5.0


@dataclass(slots=True)
class KnownDeadLetter:
    """A dead letter of a scan.

    Attributes:
        summary: Everything but the message.
        first_seen: Number of the first scan that returned it.
        content: The packed message; None if it is not kept.
    """

    summary: DeadLetter
    first_seen: int
    content: bytes | None = None


@dataclass(slots=True)
class Snapshot:
    """Dead letters that a scan returned.

    Attributes:
        number: Number of the scan, from 1.
        dead_letters: Dead letters by id.
        known: Number of dead letters that SQS reported at the start.
        unseen: Dead letters that SQS counts and did not return.
        scanned_at: When the scan ended; None while it runs.
        seconds: Duration of the scan.
    """

    number: int = 0
    dead_letters: dict[str, KnownDeadLetter] = field(default_factory=dict)
    known: int = 0
    unseen: int = 0
    scanned_at: datetime | None = None
    seconds: float = 0.0
    _sorted: list[KnownDeadLetter] | None = None

    def by_expiry(self) -> Sequence[KnownDeadLetter]:
        """Return the dead letters, soonest to expire first."""
        if self._sorted is None or len(self._sorted) != len(self.dead_letters):
            self._sorted = sorted(
                self.dead_letters.values(),
                key=lambda each: (each.summary.expires_at, each.summary.message_id),
            )
        return self._sorted


class DeadLetterScans:
    """Scans of the dead-letter queue: one at a time, repeated only while pages are viewed.

    A scan starts in the background when a page is viewed: the first one at once, others when the
    number of dead letters has changed or the last scan is old, at the intervals of `status
    --watch`. Summaries are kept for all dead letters, bodies only up to a limit.

    Args:
        queues: Returns the source queue and the dead-letter queue.
        visibility_timeout_seconds: How long a dead letter stays hidden if the console is killed.
        polls: Maximum number of concurrent polls.
        state: Returns the state of the dead-letter queue; by default read from SQS.
        now: Returns the current time, timezone-aware.

    Attributes:
        error: Why the last scan failed; empty if it did not.
        state: State of the dead-letter queue; None until it was read.
    """

    def __init__(
        self,
        queues: Callable[[], Awaitable[tuple[Queue, Queue]]],
        *,
        visibility_timeout_seconds: int = VISIBILITY_TIMEOUT_SECONDS,
        polls: int = 1,
        state: Callable[[], Awaitable[QueueState]] | None = None,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self.error = ""
        self.state: QueueState | None = None
        self._queues = queues
        self._visibility_timeout_seconds = visibility_timeout_seconds
        self._polls = polls
        self._read_state = state or self._state
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._packer = Packer()
        self._lock = asyncio.Lock()
        self._latest: Snapshot | None = None
        self._running: Snapshot | None = None
        self._count = 0
        self._state_at = self._ended_at = float("-inf")
        self._scan_seconds = 0.0
        self._wanted = False
        self._slow: set[str] = set()
        self._found: dict[str, tuple[int, frozenset[str]]] = {}
        self._looking: asyncio.Task[None] | None = None
        self._closing = False

    @property
    def snapshot(self) -> Snapshot:
        """The last complete scan; while the first one runs, what it has returned so far."""
        return self._latest or self._running or Snapshot()

    @property
    def is_scanning(self) -> bool:
        """Whether a scan runs."""
        return self._running is not None

    @property
    def seen(self) -> int:
        """Number of dead letters that the running scan has returned."""
        return 0 if self._running is None else len(self._running.dead_letters)

    def look(self, *, again: bool = False) -> None:
        """Check in the background whether a scan is due, because a page is viewed.

        Args:
            again: Whether to scan in any case, because the operator asked for it.
        """
        self._wanted = self._wanted or again
        is_idle = self._looking is None or self._looking.done()
        is_due = self._wanted or self._clock() - self._state_at >= STATE_INTERVAL_SECONDS
        if is_idle and is_due and not self._closing:
            self._looking = asyncio.create_task(self._look())

    async def settle(self) -> None:
        """Wait for the check and the scan in the background, if there are any."""
        if self._looking is not None:
            await asyncio.shield(self._looking)

    async def aclose(self) -> None:
        """End a scan and make all hidden dead letters visible again."""
        self._closing = True
        await self.settle()

    @asynccontextmanager
    async def exclusive(self) -> AsyncIterator[None]:
        """Exclude scans during an `async with` block, because the block receives messages."""
        async with self._lock:
            try:
                yield
            finally:
                self._ended_at = self._clock()

    def removed(self, message_id: str) -> None:
        """Remove a dead letter that has left the queue."""
        for snapshot in filter(None, (self._latest, self._running)):
            snapshot.dead_letters.pop(message_id, None)

    def reason_counts(self) -> ReasonCounts:
        """Return the counts by reason of the last scan."""
        snapshot = self.snapshot
        summaries = [each.summary for each in snapshot.dead_letters.values()]
        if snapshot.scanned_at is None:
            return ReasonCounts(unknown=self.error or "not scanned yet")
        return ReasonCounts(
            counts=dict(Counter(each.reason for each in summaries).most_common()),
            seen=len(summaries),
            known=len(summaries) + snapshot.unseen,
            unknown="",
            scanned_at=snapshot.scanned_at,
            oldest_at=min((each.dead_at for each in summaries), default=None),
            expires_at=min((each.expires_at for each in summaries), default=None),
        )

    async def find(self, message_id: str) -> DeadLetter | None:
        """Return a dead letter with its content, by its id or the original id; None if absent."""
        known = self._by_id(message_id)
        if known is None and self._latest is None:
            await self.settle()
            known = self._by_id(message_id)
        if known is None:
            return None
        async for dead_letter in self.read([known]):
            return dead_letter
        return None

    def _by_id(self, message_id: str) -> KnownDeadLetter | None:
        snapshot = self.snapshot
        known = snapshot.dead_letters.get(message_id)
        return known or next(
            (
                each
                for each in snapshot.dead_letters.values()
                if each.summary.original_message_id == message_id
            ),
            None,
        )

    async def read(self, wanted: Iterable[KnownDeadLetter]) -> AsyncGenerator[DeadLetter, None]:
        """Yield dead letters with their content; receive again those whose content is not kept.

        Dead letters that have left the queue may be missing.

        Raises:
            AUPError: A replay holds dead letters whose content is not kept, or SQS fails.
        """
        lacking: set[str] = set()
        for number, each in enumerate(wanted, 1):
            if each.content is None:
                lacking.add(each.summary.message_id)
            else:
                yield self._packer.unpack(each.summary, each.content)
            if number % _BATCH == 0:
                await asyncio.sleep(0)
        if lacking:
            async with aclosing(self._received(lacking)) as received:
                async for dead_letter in received:
                    yield dead_letter

    async def _received(self, ids: set[str]) -> AsyncGenerator[DeadLetter, None]:
        """Scan for dead letters with some ids.

        Raises:
            AUPError: A replay holds the dead letters.
        """
        if self._lock.locked() and not self.is_scanning:
            raise AUPError(
                "a replay runs, and the content of the dead letter is not kept; try again after it"
            )
        _, queue = await self._queues()
        async with self.exclusive(), self._new_scan(queue) as scan:
            async for dead_letter in scan:
                if dead_letter.message_id in ids:
                    ids.discard(dead_letter.message_id)
                    yield dead_letter
                if not ids or self._closing:
                    return

    async def matching(
        self, pattern: str, matches: Callable[[DeadLetter], bool]
    ) -> Collection[str]:
        """Return the ids of the dead letters whose content matches.

        Args:
            pattern: Key of the result, which is kept until the next scan.
            matches: Whether a dead letter with its content matches.

        Raises:
            UsageError: The search takes too long, during which the console would not respond.
        """
        if pattern in self._slow:
            raise UsageError(_slow(pattern))
        snapshot = self.snapshot
        number, ids = self._found.pop(pattern, (0, frozenset[str]()))
        if number != snapshot.number or snapshot.scanned_at is None:
            ids = await self._search(pattern, matches)
        self._found[pattern] = snapshot.number, ids
        if len(self._found) > _PATTERNS_MAX:
            del self._found[next(iter(self._found))]
        return ids

    async def _search(self, pattern: str, matches: Callable[[DeadLetter], bool]) -> frozenset[str]:
        ids, left_seconds = set[str](), _SEARCH_SECONDS
        async with aclosing(self.read(list(self.snapshot.dead_letters.values()))) as reading:
            async for each in reading:
                started_at = time.perf_counter()
                try:
                    with time_limit(left_seconds):
                        if matches(each):
                            ids.add(each.message_id)
                except TimeoutError:
                    self._slow.add(pattern)
                    raise UsageError(_slow(pattern)) from None
                left_seconds -= time.perf_counter() - started_at
        return frozenset(ids)

    async def _look(self) -> None:
        try:
            _, queue = await self._queues()
            self.state = await self._read_state()
            self._state_at = self._clock()
            if self._is_due(self.state):
                self._wanted = False
                async with self.exclusive():
                    await self._scan(queue, self.state)
            self.error = self._why_not_scanned(self.state)
        except AUPError as error:
            self.error, self._wanted = str(error), False
            self._state_at = self._ended_at = self._clock()

    async def _state(self) -> QueueState:
        _, queue = await self._queues()
        return await queue.state()

    def _why_not_scanned(self, state: QueueState) -> str:
        is_redriven = state.max_receive_count is not None and self._latest is None
        return REDRIVEN if is_redriven else ""

    def _is_due(self, state: QueueState) -> bool:
        if self._lock.locked():
            return False
        if self._wanted:
            return True
        if state.max_receive_count is not None:
            return False
        if self._latest is None and not self.error:
            return True
        since = self._clock() - self._ended_at
        seen = 0 if self._latest is None else len(self._latest.dead_letters)
        # Messages in flight belong to another scan or replay, which this one would disturb.
        changed = state.depth != seen and not state.in_flight
        pause = SCAN_AFTER_CHANGE_SECONDS if changed else SCAN_INTERVAL_SECONDS
        return since >= max(pause, _PAUSE_PER_SCAN_SECOND * self._scan_seconds)

    def _new_scan(self, queue: Queue, retry_seconds: float | None = None) -> Scan:
        return Scan(
            queue,
            now=self._now,
            visibility_timeout_seconds=self._visibility_timeout_seconds,
            polls=self._polls,
            retry_seconds=retry_seconds,
        )

    async def _scan(self, queue: Queue, state: QueueState) -> None:
        """Scan the queue; keep the result unless the scan fails or the console closes."""
        self._count += 1
        started_at = self._clock()
        running = self._running = Snapshot(self._count, known=state.depth)
        before = {} if self._latest is None else self._latest.dead_letters
        content_bytes = 0
        # Messages that another scan or replay holds will not return soon.
        scan = self._new_scan(queue, 0.0 if state.in_flight else None)
        try:
            async with scan:
                async for dead_letter in scan:
                    known = self._known(dead_letter, before, content_bytes)
                    content_bytes += len(known.content or b"")
                    running.dead_letters[dead_letter.message_id] = known
                    if self._closing:
                        return
        finally:
            self._running = None
            self._scan_seconds = running.seconds = self._clock() - started_at
        running.scanned_at, running.unseen = self._now(), scan.unseen
        self._latest = running

    def _known(
        self, dead_letter: DeadLetter, before: dict[str, KnownDeadLetter], content_bytes: int
    ) -> KnownDeadLetter:
        """Return what is kept of a dead letter; the same object as before to save memory."""
        known = before.get(dead_letter.message_id)
        if known is None or known.summary.expires_at != dead_letter.expires_at:
            known = KnownDeadLetter(
                self._packer.summary(dead_letter), self._count, self._packer.pack(dead_letter)
            )
        if content_bytes + len(known.content or b"") > CONTENT_MAX_BYTES:
            known.content = None
        return known


def _slow(pattern: str) -> str:
    return f"grep {pattern}: takes too long; simplify the regular expression"
