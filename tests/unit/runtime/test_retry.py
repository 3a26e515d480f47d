"""Retries: delays by full jitter, the loop, and its form for batches."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence

import pytest

from tests.simulation.virtual_clock import simulated
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError, AWSUnavailableError
from worker.runtime.retry import RetryPolicy, retry, retry_entries

POLICY = RetryPolicy(base_seconds=1.0, cap_seconds=60.0)
FIVE = RetryPolicy(attempts=5, base_seconds=1.0, cap_seconds=60.0)


@pytest.fixture
def _longest_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every delay as long as its bound."""
    monkeypatch.setattr(random, "random", lambda: 1.0)


@pytest.mark.usefixtures("_longest_delays")
def test_upper_bound_doubles_with_every_attempt_up_to_the_cap() -> None:
    delays = [POLICY.delay_seconds(failures) for failures in range(1, 9)]
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.usefixtures("_longest_delays")
def test_large_number_of_failures_does_not_overflow() -> None:
    assert POLICY.delay_seconds(100_000) == 60


def test_delays_are_uniform_between_zero_and_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", random.Random(1).random)
    delays = [POLICY.delay_seconds(4) for _ in range(2000)]
    assert 0 <= min(delays) < 0.1
    assert 7.9 < max(delays) < 8
    assert sum(delays) / len(delays) == pytest.approx(4, rel=0.05)


@pytest.mark.usefixtures("_longest_delays")
def test_cap_below_the_base_limits_the_first_delay() -> None:
    assert RetryPolicy(base_seconds=9, cap_seconds=2).delay_seconds(1) == 2


class _Call:
    """A call that raises scripted errors, then returns its argument; a call takes no time."""

    def __init__(self, *errors: AWSError) -> None:
        self.errors = list(errors)
        self.started_at: list[float] = []

    async def __call__(self, argument: str) -> str:
        self.started_at.append(asyncio.get_running_loop().time())
        if self.errors:
            raise self.errors.pop(0)
        return argument


def _throttled(count: int) -> list[AWSThrottledError]:
    return [AWSThrottledError(f"attempt {number}") for number in range(1, count + 1)]


@simulated
async def test_result_of_the_first_attempt_is_returned_at_once() -> None:
    call = _Call()
    assert await retry(FIVE, call, "a") == "a"
    assert call.started_at == pytest.approx([0])


@pytest.mark.usefixtures("_longest_delays")
@simulated
async def test_transient_errors_are_retried_after_growing_delays() -> None:
    call = _Call(*_throttled(3), AWSUnavailableError("down"))
    assert await retry(FIVE, call, "a") == "a"
    assert call.started_at == pytest.approx([0, 1, 3, 7, 15])


@simulated
async def test_error_of_the_last_attempt_is_raised() -> None:
    call = _Call(*_throttled(5))
    with pytest.raises(AWSThrottledError, match="attempt 5"):
        await retry(FIVE, call, "a")
    assert len(call.started_at) == 5


@simulated
async def test_other_errors_are_not_retried() -> None:
    call = _Call(AWSDeniedError("denied"))
    with pytest.raises(AWSDeniedError):
        await retry(FIVE, call, "a")
    assert len(call.started_at) == 1


@pytest.mark.usefixtures("_longest_delays")
@simulated
async def test_no_retry_starts_at_the_deadline() -> None:
    call = _Call(*_throttled(5))
    with pytest.raises(AWSThrottledError, match="attempt 3"):
        await retry(POLICY, call, "a", until=7.0)
    assert call.started_at == pytest.approx([0, 1, 3])


@pytest.mark.usefixtures("_longest_delays")
@simulated
async def test_moving_deadline_is_read_after_every_failure() -> None:
    call = _Call(*_throttled(10))
    deadlines = [2.0, 4.0, 8.0, 9.0]
    with pytest.raises(AWSThrottledError, match="attempt 4"):
        await retry(POLICY, call, "a", until=lambda: deadlines.pop(0))
    assert deadlines == []


@pytest.mark.usefixtures("_longest_delays")
@simulated
async def test_every_retry_is_reported_before_its_delay() -> None:
    reported: list[tuple[str, float, float]] = []

    def report(error: AWSError, delay_seconds: float) -> None:
        reported.append((str(error), delay_seconds, asyncio.get_running_loop().time()))

    with pytest.raises(AWSThrottledError, match="attempt 5"):
        await retry(FIVE, _Call(*_throttled(5)), "a", on_retry=report)
    assert [each[:2] for each in reported] == [
        ("attempt 1", 1), ("attempt 2", 2), ("attempt 3", 4), ("attempt 4", 8)
    ]  # fmt: skip
    assert [each[2] for each in reported] == pytest.approx([0, 1, 3, 7])


class _BatchCall:
    """A batch call with scripted results."""

    def __init__(self, *results: Sequence[AWSError | None] | AWSError) -> None:
        self.results = list(results)
        self.batches: list[list[str]] = []

    async def __call__(self, entries: Sequence[str]) -> Sequence[AWSError | None]:
        self.batches.append(list(entries))
        result = self.results.pop(0)
        if isinstance(result, AWSError):
            raise result
        return result


@simulated
async def test_only_entries_with_transient_errors_are_retried() -> None:
    denied = AWSDeniedError("denied")
    call = _BatchCall([None, AWSThrottledError("slow down"), denied], [None])
    assert await retry_entries(FIVE, call, ["a", "b", "c"]) == [None, None, denied]
    assert call.batches == [["a", "b", "c"], ["b"]]


@simulated
async def test_error_of_the_whole_call_counts_for_every_entry() -> None:
    call = _BatchCall(AWSUnavailableError("internal"), [None, None])
    assert await retry_entries(FIVE, call, ["a", "b"]) == [None, None]
    assert call.batches == [["a", "b"], ["a", "b"]]


@pytest.mark.usefixtures("_longest_delays")
@simulated
async def test_last_error_of_an_entry_is_returned_after_the_last_attempt() -> None:
    errors = _throttled(5)
    call = _BatchCall(*([error] for error in errors))
    assert await retry_entries(FIVE, call, ["a"]) == [errors[-1]]
    assert len(call.batches) == 5
    assert asyncio.get_running_loop().time() == pytest.approx(1 + 2 + 4 + 8)


@simulated
async def test_nothing_is_called_without_entries() -> None:
    call = _BatchCall()
    assert await retry_entries(FIVE, call, []) == []
    assert call.batches == []
