"""State how concurrent calls share batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.simulation.virtual_clock import simulated
from worker.runtime.batcher import Batcher


class _Flush:
    """Take a while for every batch and answer each entry doubled."""

    def __init__(self, seconds: float = 0.1) -> None:
        self.batches: list[list[int]] = []
        self.seconds = seconds
        self.under_way = 0
        self.most_under_way = 0
        self.answer: Callable[[Sequence[int]], Sequence[int | Exception]] = lambda entries: [
            2 * entry for entry in entries
        ]

    async def __call__(self, entries: Sequence[int]) -> Sequence[int | Exception]:
        self.batches.append(list(entries))
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            await asyncio.sleep(self.seconds)
        finally:
            self.under_way -= 1
        return self.answer(entries)


def _now() -> float:
    return asyncio.get_running_loop().time()


@simulated
async def test_a_lone_entry_waits_for_nobody() -> None:
    flush = _Flush(seconds=0.0)
    gatherer = Batcher[int, int](flush, max_entries=25)
    assert await gatherer.submit(4) == 8
    assert _now() < 0.001


@simulated
async def test_entries_of_one_turn_share_a_batch_and_each_gets_its_own_result() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=25)
    results = await asyncio.gather(*(gatherer.submit(entry) for entry in range(25)))
    assert results == [2 * entry for entry in range(25)]
    assert flush.batches == [list(range(25))]


@simulated
async def test_a_batch_is_never_larger_than_its_limit() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=10, concurrency=2)
    await asyncio.gather(*(gatherer.submit(entry) for entry in range(35)))
    assert [len(batch) for batch in flush.batches] == [10, 10, 10, 5]
    assert sorted(entry for batch in flush.batches for entry in batch) == list(range(35))


@simulated
async def test_no_more_batches_are_under_way_than_allowed() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=1, concurrency=3)
    await asyncio.gather(*(gatherer.submit(entry) for entry in range(20)))
    assert flush.most_under_way == 3
    gatherer.concurrency = 1
    flush.most_under_way = 0
    await asyncio.gather(*(gatherer.submit(entry) for entry in range(5)))
    assert flush.most_under_way == 1


@simulated
async def test_a_partial_batch_lingers_behind_another_but_not_for_long() -> None:
    flush = _Flush(seconds=1.0)
    gatherer = Batcher[int, int](flush, max_entries=10, concurrency=2, linger_seconds=0.005)
    first = asyncio.create_task(gatherer.submit(1))
    await asyncio.sleep(0.1)
    later = [asyncio.create_task(gatherer.submit(2))]
    await asyncio.sleep(0.002)
    later.append(asyncio.create_task(gatherer.submit(3)))
    await asyncio.sleep(0.002)
    assert flush.batches == [[1]]
    await asyncio.sleep(0.002)
    assert flush.batches == [[1], [2, 3]]
    await asyncio.gather(first, *later)
    assert _now() < 1.2


@simulated
async def test_a_full_batch_does_not_linger() -> None:
    flush = _Flush(seconds=1.0)
    gatherer = Batcher[int, int](flush, max_entries=2, concurrency=2, linger_seconds=0.5)
    tasks = [asyncio.create_task(gatherer.submit(1))]
    await asyncio.sleep(0.1)
    tasks += [asyncio.create_task(gatherer.submit(entry)) for entry in (2, 3)]
    await asyncio.sleep(0.001)
    assert flush.batches == [[1], [2, 3]]
    await asyncio.gather(*tasks)


@simulated
async def test_a_lingering_batch_leaves_when_the_one_before_it_ends() -> None:
    flush = _Flush(seconds=0.2)
    gatherer = Batcher[int, int](flush, max_entries=10, concurrency=2, linger_seconds=0.19)
    first = asyncio.create_task(gatherer.submit(1))
    await asyncio.sleep(0.1)
    assert await gatherer.submit(2) == 4
    assert _now() == pytest.approx(0.4, abs=0.01)
    await first


@simulated
async def test_quick_answers_make_no_small_batches() -> None:
    flush = _Flush(seconds=0.0)
    gatherer = Batcher[int, int](flush, max_entries=100, concurrency=2, linger_seconds=0.01)
    tasks = []
    for entry in range(40):
        tasks += [asyncio.create_task(gatherer.submit(entry)) for _ in range(2)]
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    assert flush.batches[0] == [0, 0], "the first ones wait for nobody"
    assert len(flush.batches) <= 6
    assert _now() < 0.06


@simulated
async def test_lone_entries_one_after_the_other_wait_for_nobody() -> None:
    flush = _Flush(seconds=0.001)
    gatherer = Batcher[int, int](flush, max_entries=25, linger_seconds=0.01)
    for entry in range(10):
        await gatherer.submit(entry)
    assert _now() == pytest.approx(0.01, abs=0.001)


@simulated
async def test_an_entry_that_comes_a_while_after_the_last_batch_waits_for_nobody() -> None:
    flush = _Flush(seconds=0.0)
    gatherer = Batcher[int, int](flush, max_entries=25, linger_seconds=0.01)
    await asyncio.gather(gatherer.submit(1), gatherer.submit(1))
    await asyncio.sleep(0.011)
    began_at = _now()
    await gatherer.submit(2)
    assert _now() - began_at < 0.001


@simulated
async def test_equal_keys_never_share_a_batch_and_keep_their_order() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=25, key=lambda entry: entry % 10)
    await asyncio.gather(*(gatherer.submit(entry) for entry in (1, 11, 2, 21, 12)))
    assert flush.batches == [[1, 2], [11, 12], [21]]


@simulated
async def test_entries_passed_over_keep_their_place_before_later_ones() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=2, key=lambda entry: entry % 10)
    await asyncio.gather(*(gatherer.submit(entry) for entry in (1, 11, 21, 2, 3, 4, 5)))
    assert flush.batches == [[1, 2], [11, 3], [21, 4], [5]]


@simulated
async def test_a_batch_stays_within_its_bytes_and_an_oversized_entry_goes_alone() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=10, max_bytes=100, size=lambda entry: entry)
    await asyncio.gather(*(gatherer.submit(entry) for entry in (60, 50, 40, 500, 10)))
    assert flush.batches == [[60, 40], [50, 10], [500]]


@simulated
async def test_an_entrys_own_error_fails_only_its_caller() -> None:
    flush = _Flush()
    flush.answer = lambda entries: [OSError(entry) if entry == 2 else entry for entry in entries]
    gatherer = Batcher[int, int](flush, max_entries=25)
    results = await asyncio.gather(
        *(gatherer.submit(entry) for entry in (1, 2, 3)), return_exceptions=True
    )
    assert [results[0], results[2]] == [1, 3]
    assert isinstance(results[1], OSError)


@simulated
async def test_an_error_of_the_whole_call_reaches_every_caller() -> None:
    async def fail(_: Sequence[int]) -> Sequence[int]:
        raise OSError("down")

    gatherer = Batcher[int, int](fail, max_entries=25)
    results = await asyncio.gather(
        *(gatherer.submit(entry) for entry in range(3)), return_exceptions=True
    )
    assert [str(result) for result in results] == ["down"] * 3


@simulated
async def test_too_few_answers_are_an_error_and_nobody_waits_for_ever() -> None:
    flush = _Flush()
    flush.answer = lambda entries: [0] * (len(entries) - 1)
    gatherer = Batcher[int, int](flush, max_entries=25)
    with pytest.raises(RuntimeError, match="1 entries were sent, 0 answered"):
        await gatherer.submit(1)


@simulated
async def test_a_cancelled_caller_before_departure_is_not_sent() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=2, concurrency=1)
    tasks = [asyncio.create_task(gatherer.submit(entry)) for entry in range(5)]
    await asyncio.sleep(0.01)
    tasks[3].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert flush.batches == [[0, 1], [2, 4]]


@simulated
async def test_a_caller_cancelled_under_way_does_not_disturb_the_others() -> None:
    gatherer = Batcher[int, int](_Flush(), max_entries=25)
    tasks = [asyncio.create_task(gatherer.submit(entry)) for entry in range(3)]
    await asyncio.sleep(0.01)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert results[1:] == [2, 4]


class _ClosedError(Exception):
    """Raised after the end."""


@simulated
async def test_closing_fails_every_caller_cancels_none_and_starts_nothing_more() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=1, concurrency=1)
    tasks = [asyncio.create_task(gatherer.submit(entry)) for entry in range(3)]
    await asyncio.sleep(0.01)
    await gatherer.aclose(_ClosedError())
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [_ClosedError] * 3
    assert not any(task.cancelled() for task in tasks)
    with pytest.raises(_ClosedError):
        await gatherer.submit(4)
    await asyncio.sleep(1)
    assert flush.batches == [[0]]
    assert gatherer.under_way == 0


@simulated
async def test_closing_before_the_first_turn_sends_nothing() -> None:
    flush = _Flush()
    gatherer = Batcher[int, int](flush, max_entries=1)
    task = asyncio.create_task(gatherer.submit(1))
    await asyncio.sleep(0)
    await gatherer.aclose(_ClosedError())
    with pytest.raises(_ClosedError):
        await task
    assert flush.batches == []


def _failing(entry: int) -> int:
    if entry == 2:
        raise ZeroDivisionError
    return entry


@pytest.mark.parametrize("part", ["key", "size"])
@simulated
async def test_an_entry_without_key_or_size_fails_alone(part: str) -> None:
    parts: dict[str, Any] = {part: _failing}
    gatherer = Batcher[int, int](_Flush(), max_entries=10, max_bytes=100, **parts)
    async with asyncio.timeout(10):
        results = await asyncio.gather(
            *(gatherer.submit(entry) for entry in (1, 2, 3)), return_exceptions=True
        )
    assert [results[0], results[2]] == [2, 6]
    assert isinstance(results[1], ZeroDivisionError)


class _AbortError(BaseException):
    """Neither an error nor a cancellation."""


@pytest.mark.parametrize("end", [_AbortError(), asyncio.CancelledError(), GeneratorExit()])
@simulated
async def test_whatever_ends_a_batch_fails_its_callers_and_cancels_none(
    end: BaseException,
) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)

    async def abort(_: Sequence[int]) -> Sequence[int]:
        raise end

    gatherer = Batcher[int, int](abort, max_entries=10)
    async with asyncio.timeout(10):
        results = await asyncio.gather(
            *(gatherer.submit(entry) for entry in range(3)), return_exceptions=True
        )
    assert [type(result) for result in results] == [RuntimeError] * 3


@pytest.mark.parametrize("answered", [None, 5])
@simulated
async def test_results_that_are_no_list_fail_their_callers(answered: Any) -> None:
    flush = _Flush()
    flush.answer = lambda _: answered
    gatherer = Batcher[int, int](flush, max_entries=10)
    async with asyncio.timeout(10):
        with pytest.raises(TypeError):
            await gatherer.submit(1)


@simulated
async def test_a_batch_that_cannot_be_sent_fails_its_callers_and_those_behind_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    gatherer = Batcher[int, int](_Flush(), max_entries=2)
    tasks = [asyncio.create_task(gatherer.submit(entry)) for entry in range(5)]
    await asyncio.sleep(0)

    def refuse(*_: Any, **__: Any) -> Any:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "create_task", refuse)
        await asyncio.sleep(0)
    async with asyncio.timeout(10):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [MemoryError] * 5
