"""Tests of when denied access pauses receiving and ends the run."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from tests.simulation.virtual_clock import simulated
from worker.aws.access import Operation, Probe
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
    GaveUpError,
    LeaseLostError,
)
from worker.pipeline.access_watch import AccessWatch

DELETE, SEND, WRITE = Operation.DELETE, Operation.DEAD_LETTER, Operation.WRITE
DENIED = AWSDeniedError("AccessDenied: no")


class _Watch:
    def __init__(self) -> None:
        self.now = 0.0
        self.given_up: list[GaveUpError] = []
        self.access = AccessWatch(300, self.given_up.append, (), lambda: self.now)

    def fail(self, error: AWSError, *, at: float, operation: Operation = DELETE) -> bool:
        self.now = at
        self.access.failed(operation, error)
        return bool(self.given_up)


@pytest.mark.parametrize("operation", Operation)
@pytest.mark.parametrize(
    "error",
    [AWSDeniedError("no entry"), AWSNotFoundError("no queue"), AWSUnsupportedError("no PartiQL")],
)
def test_gives_up_when_any_operation_is_denied_for_too_long(
    error: AWSError, operation: Operation
) -> None:
    watch = _Watch()
    for seconds in range(10, 310, 60):
        assert not watch.fail(error, at=seconds, operation=operation)
    assert not watch.fail(error, at=309, operation=operation)
    assert watch.fail(error, at=310, operation=operation)
    assert str(watch.given_up[0]) == f"denied for 300 s or longer: {error}"


def test_success_of_the_same_operation_resets_the_denied_time() -> None:
    watch = _Watch()
    watch.fail(DENIED, at=0)
    watch.access.succeeded(DELETE)
    assert watch.access.problem == ""
    assert not any(watch.fail(DENIED, at=seconds) for seconds in range(10, 300, 30))
    assert not watch.fail(DENIED, at=309)
    assert watch.fail(DENIED, at=310)


def test_success_of_another_operation_has_no_effect() -> None:
    watch = _Watch()
    for seconds in range(0, 310, 10):
        watch.fail(DENIED, at=seconds)
        for other in set(Operation) - {DELETE}:
            watch.access.succeeded(other)
        assert watch.access.problem == "AccessDenied: no"
    assert watch.given_up


def test_minute_without_a_failure_resets_the_denied_time() -> None:
    watch = _Watch()
    watch.fail(DENIED, at=0)
    assert not watch.fail(DENIED, at=400)
    assert not any(watch.fail(DENIED, at=seconds) for seconds in range(430, 700, 30))
    assert watch.fail(DENIED, at=700)


def test_outage_between_two_denials_does_not_count_as_denied() -> None:
    watch = _Watch()
    watch.fail(DENIED, at=0)
    assert not any(watch.fail(AWSUnavailableError("down"), at=at) for at in range(10, 1000, 30))
    assert not watch.fail(AWSNotFoundError("gone"), at=1000)
    assert not any(watch.fail(AWSNotFoundError("gone"), at=at) for at in range(1030, 1300, 30))
    assert watch.fail(AWSNotFoundError("gone"), at=1300)


def test_gives_up_on_denials_interspersed_with_transient_failures() -> None:
    watch = _Watch()
    for at in range(0, 600, 2):
        watch.fail(DENIED, at=at)
        if at % 10 == 0:
            watch.fail(AWSUnavailableError("down"), at=at + 1)
    assert watch.given_up


@pytest.mark.parametrize("error", [AWSThrottledError("slow"), AWSUnavailableError("down")])
def test_transient_failures_never_end_the_service(error: AWSError) -> None:
    watch = _Watch()
    assert not any(watch.fail(error, at=seconds) for seconds in range(0, 100_000, 100))
    assert watch.access.problem == ""


@pytest.mark.parametrize("error", [AWSRejectedError("too long"), LeaseLostError("old handle")])
def test_rejected_request_counts_as_permitted(error: AWSError) -> None:
    watch = _Watch()
    watch.fail(DENIED, at=0)
    watch.fail(error, at=1)
    assert watch.access.problem == ""


@pytest.mark.parametrize(
    ("results", "troubled"),
    [
        ([None, DENIED, None], True),
        ([LeaseLostError("old"), DENIED], True),
        ([None, AWSUnavailableError("down")], False),
        ([LeaseLostError("old")], False),
        ([AWSUnavailableError("down")], True),
        ([], True),
    ],
)
def test_batch_counts_by_its_worst_entry(
    results: Sequence[AWSError | None], troubled: bool
) -> None:
    watch = _Watch()
    watch.fail(DENIED, at=0)
    watch.access.observe(DELETE, results)
    assert bool(watch.access.problem) is troubled


def test_each_failing_operation_is_logged_once_a_minute() -> None:
    watch = _Watch()
    with capture_logs() as logs:
        for seconds in range(180):
            watch.fail(AWSUnavailableError("down"), at=seconds)
            watch.fail(DENIED, at=seconds, operation=SEND)
    logged = [(entry["operation"], entry["kind"]) for entry in logs]
    assert logged == [("delete", "AWSUnavailableError"), ("send dead letter", "AWSDeniedError")] * 3


class _Probed:
    """Watch with one probe whose result the test chooses."""

    def __init__(self, error: AWSError | None) -> None:
        self.error = error
        self.probes = 0
        self.given_up: list[float] = []
        self._clock = asyncio.get_running_loop().time
        probe = Probe(DELETE, "sqs:DeleteMessage", "queue test", self._attempt)
        self.access = AccessWatch(
            300, lambda _: self.given_up.append(self._clock()), [probe], self._clock
        )
        self.task = asyncio.create_task(self.access.run())

    async def _attempt(self) -> None:
        self.probes += 1
        if self.error is not None:
            raise self.error


@simulated
async def test_only_operations_with_a_probe_pause_receiving() -> None:
    watch = _Probed(DENIED)
    stopped = []
    for operation in (WRITE, DELETE):
        watch.access.failed(operation, DENIED)
        stopped.append(watch.access.stops_receiving)
    assert stopped == [False, True]
    watch.task.cancel()


@simulated
async def test_denied_operation_without_calls_is_probed_until_it_gives_up() -> None:
    watch = _Probed(DENIED)
    watch.access.failed(DELETE, DENIED)
    await asyncio.sleep(290)
    assert watch.given_up == []
    await asyncio.sleep(30)
    assert 300 <= watch.given_up[0] <= 320
    assert watch.probes <= 32
    watch.task.cancel()


@pytest.mark.parametrize("result", [None, LeaseLostError("no such handle")])
@simulated
async def test_successful_probe_resumes_receiving(result: AWSError | None) -> None:
    watch = _Probed(DENIED)
    watch.access.failed(DELETE, DENIED)
    await asyncio.sleep(100)
    watch.error = result
    await watch.access.wait_for_change(1000)
    assert asyncio.get_running_loop().time() <= 111
    assert not watch.access.stops_receiving
    assert watch.access.problem == ""
    watch.task.cancel()


@simulated
async def test_no_probe_while_the_worker_makes_the_call_itself() -> None:
    watch = _Probed(None)
    for _ in range(100):
        watch.access.failed(DELETE, DENIED)
        await asyncio.sleep(5)
    assert watch.probes == 0
    assert watch.given_up
    watch.task.cancel()


@simulated
async def test_misleading_probe_is_ignored_after_two_passes() -> None:
    watch = _Probed(None)
    resumed = 0
    while not watch.given_up:
        if not watch.access.stops_receiving:
            resumed += 1
            watch.access.failed(DELETE, DENIED)
        await asyncio.sleep(1)
    assert resumed == 3, "each costs a receive"
    assert asyncio.get_running_loop().time() < 400
    watch.access.succeeded(DELETE)
    assert not watch.access.stops_receiving
    watch.task.cancel()
