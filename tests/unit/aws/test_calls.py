"""A call has a deadline and is counted."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.simulation.aws_errors import dynamodb_error
from tests.simulation.virtual_clock import simulated
from worker.aws.calls import calling
from worker.errors import (
    AWSThrottledError,
    AWSUnavailableError,
)


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
