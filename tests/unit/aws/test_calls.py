"""A call has a deadline and is counted."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import simulated
from worker.aws.calls import calling
from worker.errors import AWSThrottledError, AWSUnavailableError


@simulated
async def test_hanging_call_ends_at_its_deadline() -> None:
    with pytest.raises(AWSUnavailableError, match=r"^Call: no response within 2\.5 s$"):
        async with calling("Call", 2.5):
            await asyncio.Event().wait()
    assert asyncio.get_running_loop().time() == pytest.approx(2.5)


@simulated
async def test_failed_call_is_counted() -> None:
    calls = Counter[str]()
    async with calling("Call", 1, calls):
        pass
    with pytest.raises(AWSThrottledError):
        async with calling("Call", 1, calls):
            raise dynamodb_error("Call", "ThrottlingException")
    assert calls == {"Call": 2}


@simulated
async def test_cancelled_call_stays_cancelled() -> None:
    async def call() -> None:
        async with calling("Call", 60):
            await asyncio.Event().wait()

    task = asyncio.create_task(call())
    await asyncio.sleep(1)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@simulated
async def test_cancellation_at_the_deadline_stays_a_cancellation() -> None:
    async def call() -> None:
        async with calling("Call", 1):
            await asyncio.Event().wait()

    for difference in (-1e-10, 1e-10):  # both fire in the same iteration of the loop
        task = asyncio.create_task(call())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(1 + difference, task.cancel)
        await asyncio.wait([task])
        assert task.cancelled()


async def _ending_after_cancellation(error: Exception | None) -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        if error is not None:
            raise error from None
    return "result"


@simulated
async def test_result_after_the_deadline_is_kept() -> None:
    async with calling("Call", 1):
        assert await _ending_after_cancellation(None) == "result"
    await _assert_not_cancelled()


@simulated
async def test_error_after_the_deadline_is_kept() -> None:
    with pytest.raises(AWSThrottledError):
        async with calling("Call", 1):
            await _ending_after_cancellation(dynamodb_error("Call", "ThrottlingException"))
    await _assert_not_cancelled()


@simulated
async def test_deadline_leaves_no_cancellation_behind() -> None:
    for _ in range(3):
        with pytest.raises(AWSUnavailableError, match="no response within"):
            async with calling("Call", 1):
                await asyncio.Event().wait()
        await _assert_not_cancelled()


@simulated
async def test_deadline_ends_with_the_call() -> None:
    async with calling("Call", 1):
        await asyncio.sleep(0.9)
    with pytest.raises(AWSThrottledError):
        async with calling("Call", 1):
            raise dynamodb_error("Call", "ThrottlingException")
    await asyncio.sleep(5)
    await _assert_not_cancelled()


async def _assert_not_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)


@simulated
async def test_shorter_of_two_deadlines_ends_the_call() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1), calling("Call", 2):
            await asyncio.Event().wait()
    with pytest.raises(AWSUnavailableError):
        async with asyncio.timeout(2), calling("Call", 1):
            await asyncio.Event().wait()
    with pytest.raises(AWSUnavailableError, match=r"Inner: no response within 1 s"):
        async with calling("Outer", 2), calling("Inner", 1):
            await asyncio.Event().wait()
    with pytest.raises(AWSUnavailableError, match=r"Outer: no response within 1 s"):
        async with calling("Outer", 1), calling("Inner", 2):
            await asyncio.Event().wait()
    await _assert_not_cancelled()


@simulated
async def test_call_of_a_task_that_was_cancelled_before_has_a_deadline() -> None:
    async def call() -> int:
        task = asyncio.current_task()
        assert task is not None
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        with pytest.raises(AWSUnavailableError, match="no response within"):
            async with calling("Call", 1):
                await asyncio.Event().wait()
        return task.cancelling()

    task = asyncio.create_task(call())
    await asyncio.sleep(1)
    task.cancel()
    assert await task == 1


@simulated
async def test_call_with_no_time_left_ends_at_its_first_wait() -> None:
    for seconds in (0, -1):
        with pytest.raises(AWSUnavailableError, match="no response within"):
            async with calling("Call", seconds):
                await asyncio.Event().wait()
