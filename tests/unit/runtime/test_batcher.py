"""Batching of concurrent calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.batcher import Batcher


class _Flush:
    """A flush that takes some time and returns each entry doubled."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.batches: list[list[int]] = []
        self.seconds = seconds
        self.in_flight = 0
        self.max_in_flight = 0
        self.respond: Callable[[Sequence[int]], Sequence[int | Exception]] = lambda entries: [
            2 * entry for entry in entries
        ]

    async def __call__(self, entries: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(entries))
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        return self.respond(entries)


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _submit(batcher: Batcher[int, int], entry: int) -> int:
    return await batcher.submit(entry)


@simulated
async def test_single_entry_is_sent_without_delay() -> None:
    flush = _Flush(seconds=0.0)
    batcher = Batcher[int, int](flush, max_entries=25)
    assert await batcher.submit(4) == 8
    assert _now() < 0.001


@simulated
async def test_entries_of_one_loop_iteration_share_a_batch_and_get_their_own_results() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=25)
    results = await asyncio.gather(*(batcher.submit(entry) for entry in range(25)))
    assert results == [2 * entry for entry in range(25)]
    assert flush.batches == [list(range(25))]


@simulated
async def test_batch_never_exceeds_max_entries() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=10, concurrency=2)
    await asyncio.gather(*(batcher.submit(entry) for entry in range(35)))
    assert [len(batch) for batch in flush.batches] == [10, 10, 10, 5]
    assert sorted(entry for batch in flush.batches for entry in batch) == list(range(35))


@simulated
async def test_batches_in_flight_never_exceed_concurrency() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=1, concurrency=3)
    await asyncio.gather(*(batcher.submit(entry) for entry in range(20)))
    assert flush.max_in_flight == 3
    batcher.concurrency = 1
    flush.max_in_flight = 0
    await asyncio.gather(*(batcher.submit(entry) for entry in range(5)))
    assert flush.max_in_flight == 1


@simulated
async def test_partial_batch_waits_at_most_linger_seconds() -> None:
    flush = _Flush(seconds=1.0)
    batcher = Batcher[int, int](flush, max_entries=10, concurrency=2, linger_seconds=0.005)
    first = asyncio.create_task(_submit(batcher, 1))
    await asyncio.sleep(0.1)
    later = [asyncio.create_task(_submit(batcher, 2))]
    await asyncio.sleep(0.002)
    later.append(asyncio.create_task(_submit(batcher, 3)))
    await asyncio.sleep(0.002)
    assert flush.batches == [[1]]
    await asyncio.sleep(0.002)
    assert flush.batches == [[1], [2, 3]]
    await asyncio.gather(first, *later)
    assert _now() < 1.2


@simulated
async def test_full_batch_is_sent_without_delay() -> None:
    flush = _Flush(seconds=1.0)
    batcher = Batcher[int, int](flush, max_entries=2, concurrency=2, linger_seconds=0.5)
    tasks = [asyncio.create_task(_submit(batcher, 1))]
    await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(_submit(batcher, entry)) for entry in (2, 3)]
    await asyncio.sleep(0.001)
    assert flush.batches == [[1], [2, 3]]
    await asyncio.gather(*tasks)


@simulated
async def test_partial_batch_is_sent_when_the_previous_one_ends() -> None:
    flush = _Flush(seconds=0.2)
    batcher = Batcher[int, int](flush, max_entries=10, concurrency=2, linger_seconds=0.19)
    first = asyncio.create_task(_submit(batcher, 1))
    await asyncio.sleep(0.1)
    assert await batcher.submit(2) == 4
    assert _now() == pytest.approx(0.4, abs=0.01)
    await first


@simulated
async def test_fast_responses_do_not_cause_small_batches() -> None:
    flush = _Flush(seconds=0.0)
    batcher = Batcher[int, int](flush, max_entries=100, concurrency=2, linger_seconds=0.01)
    tasks = []
    for entry in range(40):
        tasks += [asyncio.create_task(_submit(batcher, entry)) for _ in range(2)]
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    assert flush.batches[0] == [0, 0], "the first batch is sent without delay"
    assert len(flush.batches) <= 6
    assert _now() < 0.06


@simulated
async def test_consecutive_single_entries_are_sent_without_delay() -> None:
    flush = _Flush(seconds=0.001)
    batcher = Batcher[int, int](flush, max_entries=25, linger_seconds=0.01)
    for entry in range(10):
        await batcher.submit(entry)
    assert _now() == pytest.approx(0.01, abs=0.001)


@simulated
async def test_entry_after_a_pause_is_sent_without_delay() -> None:
    flush = _Flush(seconds=0.0)
    batcher = Batcher[int, int](flush, max_entries=25, linger_seconds=0.01)
    await asyncio.gather(batcher.submit(1), batcher.submit(1))
    await asyncio.sleep(0.011)
    began_at = _now()
    await batcher.submit(2)
    assert _now() - began_at < 0.001


@simulated
async def test_equal_keys_never_share_a_batch_and_keep_their_order() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=25, key=lambda entry: entry % 10)
    await asyncio.gather(*(batcher.submit(entry) for entry in (1, 11, 2, 21, 12)))
    assert flush.batches == [[1, 2], [11, 12], [21]]


@simulated
async def test_skipped_entries_are_sent_before_later_ones() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=2, key=lambda entry: entry % 10)
    await asyncio.gather(*(batcher.submit(entry) for entry in (1, 11, 21, 2, 3, 4, 5)))
    assert flush.batches == [[1, 2], [11, 3], [21, 4], [5]]


@simulated
async def test_batch_never_exceeds_max_bytes_and_an_oversized_entry_is_sent_alone() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=10, max_bytes=100, size=lambda entry: entry)
    await asyncio.gather(*(batcher.submit(entry) for entry in (60, 50, 40, 500, 10)))
    assert flush.batches == [[60, 40], [50, 10], [500]]


@simulated
async def test_exception_of_an_entry_is_raised_only_to_its_caller() -> None:
    flush = _Flush()
    flush.respond = lambda entries: [OSError(entry) if entry == 2 else entry for entry in entries]
    batcher = Batcher[int, int](flush, max_entries=25)
    results = await asyncio.gather(
        *(_submit(batcher, entry) for entry in (1, 2, 3)), return_exceptions=True
    )
    assert [results[0], results[2]] == [1, 3]
    assert isinstance(results[1], OSError)


@simulated
async def test_exception_of_a_batch_is_raised_to_every_caller() -> None:
    async def fail(_: Sequence[int]) -> Sequence[int]:
        raise OSError("down")

    batcher = Batcher[int, int](fail, max_entries=25)
    results = await asyncio.gather(
        *(batcher.submit(entry) for entry in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["down"] * 3


@simulated
async def test_too_few_results_are_an_error() -> None:
    flush = _Flush()
    flush.respond = lambda entries: [0] * (len(entries) - 1)
    batcher = Batcher[int, int](flush, max_entries=25)
    with pytest.raises(RuntimeError, match="flush returned 0 results for 1 entries"):
        await batcher.submit(1)


@simulated
async def test_entry_of_a_cancelled_caller_is_not_sent() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=2, concurrency=1)
    tasks = [asyncio.create_task(_submit(batcher, entry)) for entry in range(5)]
    await asyncio.sleep(0.01)
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert flush.batches == [[0, 1], [2, 4]]


@simulated
async def test_caller_cancelled_in_flight_does_not_affect_the_others() -> None:
    batcher = Batcher[int, int](_Flush(), max_entries=25)
    tasks = [asyncio.create_task(_submit(batcher, entry)) for entry in range(3)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1:] == [2, 4]


class _ClosedError(Exception):
    """Raised after closing."""


@simulated
async def test_close_fails_every_caller_cancels_none_and_sends_nothing_more() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=1, concurrency=1)
    tasks = [asyncio.create_task(_submit(batcher, entry)) for entry in range(3)]
    await asyncio.sleep(0.01)
    await batcher.aclose(_ClosedError())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [_ClosedError] * 3
    assert not any(task.cancelled() for task in tasks)
    with pytest.raises(_ClosedError):
        await batcher.submit(4)
    await asyncio.sleep(1)
    assert flush.batches == [[0]]
    assert batcher.in_flight == 0


@simulated
async def test_close_before_the_first_loop_iteration_sends_nothing() -> None:
    flush = _Flush()
    batcher = Batcher[int, int](flush, max_entries=1)
    task = asyncio.create_task(_submit(batcher, 1))
    await asyncio.sleep(0)
    await batcher.aclose(_ClosedError())
    with pytest.raises(_ClosedError):
        await task
    assert flush.batches == []


def _failing(entry: int) -> int:
    if entry == 2:
        raise ZeroDivisionError
    return entry


@pytest.mark.parametrize("part", ["key", "size"])
@simulated
async def test_entry_whose_key_or_size_fails_fails_alone(part: str) -> None:
    parts: dict[str, Any] = {part: _failing}
    batcher = Batcher[int, int](_Flush(), max_entries=10, max_bytes=100, **parts)
    async with asyncio.timeout(10):
        results = await asyncio.gather(
            *(_submit(batcher, entry) for entry in (1, 2, 3)), return_exceptions=True
        )
    assert [results[0], results[2]] == [2, 6]
    assert isinstance(results[1], ZeroDivisionError)


class _AbortError(BaseException):
    """A BaseException other than a cancellation."""


@pytest.mark.parametrize("end", [_AbortError(), asyncio.CancelledError(), GeneratorExit()])
@simulated
async def test_any_end_of_a_batch_fails_its_callers_and_cancels_none(
    end: BaseException,
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    async def abort(_: Sequence[int]) -> Sequence[int]:
        raise end

    batcher = Batcher[int, int](abort, max_entries=10)
    async with asyncio.timeout(10):
        results = await asyncio.gather(
            *(batcher.submit(entry) for entry in range(3)), return_exceptions=True
        )
    assert [type(result) for result in results] == [RuntimeError] * 3


@pytest.mark.parametrize("returned", [None, 5])
@simulated
async def test_results_that_are_not_a_list_fail_their_callers(returned: Any) -> None:
    flush = _Flush()
    flush.respond = lambda _: returned
    batcher = Batcher[int, int](flush, max_entries=10)
    async with asyncio.timeout(10):
        with pytest.raises(TypeError):
            await batcher.submit(1)


@simulated
async def test_batch_that_cannot_be_sent_fails_its_callers_and_the_waiting_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    batcher = Batcher[int, int](_Flush(), max_entries=2)
    tasks = [asyncio.create_task(_submit(batcher, entry)) for entry in range(5)]
    await asyncio.sleep(0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_task", refuse)
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError] * 5
