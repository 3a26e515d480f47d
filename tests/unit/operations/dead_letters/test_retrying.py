"""A batch call is repeated only for entries that failed with a transient error."""

from __future__ import annotations

from collections.abc import Sequence

from tests.simulation.virtual_clock import simulated
from worker.errors import AWSDeniedError, AWSError, AWSThrottledError, AWSUnavailableError
from worker.operations.dead_letters.retrying import retry_entries


class _Call:
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
async def test_only_transient_failures_are_retried() -> None:
    denied = AWSDeniedError("denied")
    call = _Call([None, AWSThrottledError("slow down"), denied], [None])
    assert await retry_entries(call, ["a", "b", "c"]) == [None, None, denied]
    assert call.batches == [["a", "b", "c"], ["b"]]


@simulated
async def test_error_of_the_whole_call_counts_for_every_entry() -> None:
    call = _Call(AWSUnavailableError("internal"), [None, None])
    assert await retry_entries(call, ["a", "b"]) == [None, None]
    assert call.batches == [["a", "b"], ["a", "b"]]


@simulated
async def test_last_error_is_returned_after_five_attempts() -> None:
    errors = [AWSThrottledError(f"attempt {number}") for number in range(1, 6)]
    call = _Call(*([error] for error in errors))
    assert await retry_entries(call, ["a"]) == [errors[-1]]
    assert len(call.batches) == 5


@simulated
async def test_nothing_is_called_without_entries() -> None:
    call = _Call()
    assert await retry_entries(call, []) == []
    assert call.batches == []
