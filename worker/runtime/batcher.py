"""Concurrent calls gathered into batches."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

EntryT = TypeVar("EntryT")
ResultT = TypeVar("ResultT")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[EntryT, ResultT]):
    entry: EntryT
    key: Hashable
    size: int
    future: asyncio.Future[ResultT]
    since: float


class Batcher(Generic[EntryT, ResultT]):
    """Gather entries that are submitted concurrently into one call.

    A batch leaves at once when it is full; a partial one while another is under way, or one of
    several entries has left just now, waits for `linger_seconds` at most (after Nagle's rule, RFC
    896). So lone entries wait for nobody, and under load batches are full, however quick the
    answers are.

    Args:
        flush: sends a batch; gives one result or exception for each entry, in order.
        max_entries: how many entries a batch holds at most.
        max_bytes: what `size` may add up to in a batch.
        concurrency: how many batches are under way at most; may be changed at any time.
        linger_seconds: how long a partial batch waits behind another, and stays behind it.
        key: entries of equal key never share a batch.
        size: the bytes of one entry.
    """

    def __init__(
        self,
        flush: Callable[[Sequence[EntryT]], Awaitable[Sequence[ResultT | Exception]]],
        *,
        max_entries: int,
        max_bytes: int | None = None,
        concurrency: int = 1,
        linger_seconds: float = 0.01,
        key: Callable[[EntryT], Hashable] | None = None,
        size: Callable[[EntryT], int] | None = None,
    ) -> None:
        # Asking for the running loop costs a call of the system, and every entry needs it.
        self._loop = asyncio.get_running_loop()
        self._flush = flush
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self.concurrency = concurrency
        self._linger_seconds = linger_seconds
        self._key = key
        self._size = size
        self._waiting: deque[_Waiting[EntryT, ResultT]] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._left_at = float("-inf")
        self._scheduled: asyncio.Handle | None = None
        self._lingering: asyncio.TimerHandle | None = None
        self._closed: Exception | None = None

    @property
    def under_way(self) -> int:
        """How many batches are under way."""
        return len(self._under_way)

    async def submit(self, entry: EntryT) -> ResultT:
        """Send the entry in some batch.

        Returns:
            The entry's own result.

        Raises:
            Exception: what `flush` gave for this entry, or raised for its whole batch; what `key`
                or `size` raised for this entry; what `aclose` was given.
        """
        if self._closed is not None:
            raise self._closed
        # Without parameters: with them, the type would be made anew for each entry.
        waiting: _Waiting[EntryT, ResultT] = _Waiting(
            entry,
            self._key(entry) if self._key else None,
            self._size(entry) if self._size else 0,
            self._loop.create_future(),
            self._loop.time(),
        )
        self._waiting.append(waiting)
        # The next turn of the loop: whoever submits in this one shares the batch.
        if self._scheduled is None:
            self._scheduled = self._loop.call_soon(self._pump)
        return await waiting.future

    def _pump(self) -> None:
        try:
            self._send_batches()
        except BaseException as error:
            # Nothing else will send them, and their callers would wait for ever.
            _fail(self._waiting, error)
            self._waiting.clear()
            raise

    def _send_batches(self) -> None:
        self._scheduled = None
        if self._lingering is not None:
            self._lingering.cancel()
            self._lingering = None
        while self._waiting and len(self._under_way) < self.concurrency:
            if self._should_wait():
                break
            batch = self._take_batch()
            if not batch:
                break
            # One entry by itself is no sign that more are to come.
            self._left_at = self._loop.time() if len(batch) > 1 else float("-inf")
            sending = self._send(batch)
            try:
                task = self._loop.create_task(sending)
            except BaseException as error:
                sending.close()
                _fail(batch, error)
                raise
            self._under_way.add(task)
            task.add_done_callback(self._finished)

    def _should_wait(self) -> bool:
        if len(self._waiting) >= self._max_entries:
            return False
        before = self._waiting[0].since if self._under_way else self._left_at
        ripe_at = before + self._linger_seconds
        if self._loop.time() >= ripe_at:
            return False
        self._lingering = self._loop.call_at(ripe_at, self._pump)
        return True

    def _take_batch(self) -> list[_Waiting[EntryT, ResultT]]:
        batch: list[_Waiting[EntryT, ResultT]] = []
        passed_over: list[_Waiting[EntryT, ResultT]] = []
        keys: set[Hashable] = set()
        room = self._max_bytes
        while self._waiting and len(batch) < self._max_entries:
            waiting = self._waiting.popleft()
            if waiting.future.done():  # its caller was cancelled
                continue
            fits = room is None or waiting.size <= room or not batch
            if (waiting.key is not None and waiting.key in keys) or not fits:
                passed_over.append(waiting)
                continue
            batch.append(waiting)
            keys.add(waiting.key)
            room = None if room is None else room - waiting.size
        self._waiting.extendleft(reversed(passed_over))
        return batch

    async def _send(self, batch: list[_Waiting[EntryT, ResultT]]) -> None:
        try:
            results = await self._flush([waiting.entry for waiting in batch])
            _check_length(batch, results)
        except Exception as error:  # noqa: BLE001 - handed to every caller of the batch
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

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        if self._waiting:
            self._pump()

    async def aclose(self, error: Exception) -> None:
        """Cancel the batches under way; entries that have no result yet, and later ones, fail.

        Args:
            error: raised by `submit`, in place of a cancellation that nobody asked for.
        """
        self._closed = error
        for handle in (self._scheduled, self._lingering):
            if handle is not None:
                handle.cancel()
        self._scheduled = self._lingering = None
        # First, or every batch that ends would send the next one.
        _fail(self._waiting, error)
        self._waiting.clear()
        tasks = list(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _fail(waiting: Iterable[_Waiting[EntryT, ResultT]], error: BaseException) -> None:
    if not isinstance(error, Exception):
        error = RuntimeError(f"the batch ended by {type(error).__name__}")
    for each in waiting:
        if not each.future.done():
            each.future.set_exception(error)


def _check_length(batch: Sequence[object], results: Sequence[object]) -> None:
    if len(results) != len(batch):
        raise RuntimeError(f"{len(batch)} entries were sent, {len(results)} answered")
