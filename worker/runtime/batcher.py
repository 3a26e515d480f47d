"""Batching of concurrent calls."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from math import inf
from typing import Generic, TypeVar

import msgspec

EntryT = TypeVar("EntryT")
ResultT = TypeVar("ResultT")


# Not a dataclass: creating one takes three times as long.
class _Waiting(msgspec.Struct, Generic[EntryT, ResultT], eq=False):
    entry: EntryT
    key: Hashable
    size: int
    future: asyncio.Future[ResultT]
    since: float


class Batcher(Generic[EntryT, ResultT]):
    """Batches of entries that are submitted concurrently.

    A full batch is sent at once. A partial batch waits, for at most `linger_seconds`, while another
    batch is in flight or a batch of several entries was sent recently (after Nagle's algorithm, RFC
    896). So a single entry is sent without delay, and batches fill under load regardless of
    latency.

    Args:
        flush: Sends a batch and returns one result or exception per entry, in order.
        max_entries: Maximum number of entries in a batch.
        max_bytes: Maximum sum of `size` in a batch.
        concurrency: Maximum number of batches in flight; may be changed at any time.
        linger_seconds: Maximum wait of a partial batch.
        key: Entries with equal keys never share a batch.
        size: Returns the size of an entry in bytes.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[EntryT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        max_entries: int,
        max_bytes: float = inf,
        concurrency: int = 1,
        linger_seconds: float = 0.01,
        key: Callable[[EntryT], Hashable] | None = None,
        size: Callable[[EntryT], int] | None = None,
    ) -> None:
        # Every entry needs the loop, and `get_running_loop` is slow: it calls getpid.
        self._loop = asyncio.get_running_loop()
        self._flush = flush
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.concurrency = concurrency
        self._linger_seconds = linger_seconds
        self._key = key or _unique_key
        self._size = size or _no_size
        self._waiting: deque[_Waiting[EntryT, ResultT]] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._last_sent_at = -inf
        self._scheduled: asyncio.Handle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._closed: Exception | None = None

    @property
    def in_flight(self) -> int:
        """The number of batches in flight."""
        return len(self._in_flight)

    def submit(self, entry: EntryT) -> asyncio.Future[ResultT]:
        """Send an entry in a batch. Cancelling the future drops an entry that is not sent yet.

        Returns:
            The result of the entry, or its exception: that of the entry or of the batch from
            `flush`, or the one passed to `aclose`.

        Raises:
            Exception: `key` or `size` raised it, or the batcher is closed.
        """
        if self._closed is not None:
            raise self._closed
        loop = self._loop
        # Subscripting the class would create a generic alias for each entry.
        waiting: _Waiting[EntryT, ResultT] = _Waiting(
            entry,
            self._key(entry),
            self._size(entry),
            loop.create_future(),
            loop.time(),
        )
        self._waiting.append(waiting)
        # In the next loop iteration, so that entries submitted in this one share the batch.
        if self._scheduled is None:
            self._scheduled = loop.call_soon(self._send_due)
        return waiting.future

    def _send_due(self) -> None:
        try:
            self._send_batches()
        except BaseException as error:
            # Nothing else would send them, and their callers would wait forever.
            _fail(self._waiting, error)
            self._waiting.clear()
            raise

    def _send_batches(self) -> None:
        self._scheduled = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        while self._waiting and len(self._in_flight) < self.concurrency:
            if self._should_wait():
                break
            batch = self._take_batch()
            if not batch:
                break
            # A single entry does not indicate that more will follow.
            self._last_sent_at = self._loop.time() if len(batch) > 1 else -inf
            sending = self._send(batch)
            try:
                task = self._loop.create_task(sending)
            except BaseException as error:
                sending.close()
                _fail(batch, error)
                raise
            self._in_flight.add(task)
            task.add_done_callback(self._on_done)

    def _should_wait(self) -> bool:
        if len(self._waiting) >= self._max_entries:
            return False
        start = self._waiting[0].since if self._in_flight else self._last_sent_at
        due_at = start + self._linger_seconds
        if self._loop.time() >= due_at:
            return False
        self._lingering = self._loop.call_at(due_at, self._send_due)
        return True

    def _take_batch(self) -> list[_Waiting[EntryT, ResultT]]:
        # By key: no two entries of a batch have the same.
        batch: dict[Hashable, _Waiting[EntryT, ResultT]] = {}
        skipped: list[_Waiting[EntryT, ResultT]] = []
        free_bytes = self._max_bytes
        while self._waiting and len(batch) < self._max_entries:
            waiting = self._waiting.popleft()
            if waiting.future.done():  # the caller was cancelled
                continue
            if waiting.key in batch or (waiting.size > free_bytes and batch):
                skipped.append(waiting)
                continue
            batch[waiting.key] = waiting
            free_bytes -= waiting.size
        self._waiting.extendleft(reversed(skipped))
        return list(batch.values())

    async def _send(self, batch: list[_Waiting[EntryT, ResultT]]) -> None:
        try:
            results = await self._flush([waiting.entry for waiting in batch])
            _check_length(batch, results)
        except Exception as error:  # noqa: BLE001 - raised to every caller of the batch
            results = [error] * len(batch)
        except BaseException as error:
            _fail(batch, self._closed or error)
            raise
        for waiting, result in zip(batch, results, strict=True):
            if waiting.future.done():
                continue
            if isinstance(result, Exception):
                waiting.future.set_exception(result)
            else:
                waiting.future.set_result(result)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._in_flight.discard(task)
        if self._waiting:
            self._send_due()

    async def aclose(self, error: Exception) -> None:
        """Cancel the batches in flight; pending and later entries fail.

        Args:
            error: Raised by `submit`, instead of a cancellation that its caller did not request.
        """
        self._closed = error
        for handle in (self._scheduled, self._lingering):
            if handle is not None:
                handle.cancel()
        self._scheduled = self._lingering = None
        # Before cancelling: each finished batch would send the next one.
        _fail(self._waiting, error)
        self._waiting.clear()
        tasks = list(self._in_flight)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _unique_key(_: object) -> Hashable:
    return object()


def _no_size(_: object) -> int:
    return 0


def _fail(waiting: Iterable[_Waiting[EntryT, ResultT]], error: BaseException) -> None:
    if not isinstance(error, Exception):
        error = RuntimeError(f"the batch was ended by {type(error).__name__}")
    for each in waiting:
        if not each.future.done():
            each.future.set_exception(error)


def _check_length(batch: Sequence[object], results: Sequence[object]) -> None:
    if len(results) != len(batch):
        raise RuntimeError(f"flush returned {len(results)} results for {len(batch)} entries")
