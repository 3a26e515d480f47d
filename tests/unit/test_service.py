"""Tests of how the service opens, drains on signals and closes; tests/process runs it for real."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import aiohttp
import pytest
import structlog
from structlog.testing import capture_logs

from tests.simulation.faults import Durations
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, body, open_world, policy, settings
from worker import service
from worker.errors import (
    AWSDeniedError,
    AWSThrottledError,
    AWSUnavailableError,
    GaveUpError,
    SettingsError,
)
from worker.observability.service_status import ServiceStatus
from worker.observability.summary import summaries
from worker.repository import AUPRepository, SingletonMeta
from worker.runtime.logs import configure
from worker.runtime.retry import retry
from worker.settings import Settings


async def _world() -> World:
    # Real time: a call takes no more than a blink.
    durations = Durations(min_latency_seconds=0.0, max_latency_seconds=0.0005)
    world = await open_world(max_receive_count=10, durations=durations)
    async with world.repository() as repository:
        await repository.publish_policy(policy())
    world.session = SimulatedSession(world.sqs, world.dynamodb)
    return world


def _settings(**changes: Any) -> Settings:
    return settings(**{"wait_seconds": 0, "poll_concurrency": 1, **changes})


def _good(number: int) -> str:
    return body(number, accepted_at="2020-01-01T00:00:00Z")


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a simulated service has no event to wait for
            await asyncio.sleep(0.005)


async def _serving(world: World, chosen: Settings) -> asyncio.Task[None]:
    # The simulated session does not have the type of a real one.
    task = asyncio.create_task(service.serve(chosen, session=cast("Any", world.session)))
    await _until(lambda: task.done() or len(world.session.openings) >= 3)
    return task


@pytest.fixture
def pair_seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    """Shorten the time in which two signals count as one."""
    seconds = 0.1
    monkeypatch.setattr("worker.runtime.signals._PAIR_SECONDS", seconds)
    return seconds


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_and_closes_the_service(
    number: signal.Signals,
) -> None:
    world = await _world()
    await world.push(*(_good(each) for each in range(20)), "{")
    with capture_logs() as logs:
        task = await _serving(world, _settings())
        await _until(lambda: not world.bodies(SOURCE))
        signal.raise_signal(number)
        await asyncio.wait_for(task, 10)
    assert len(world.records()) == 20
    assert world.bodies(DEAD_LETTERS) == ["{"]
    assert world.session.open_count == 0
    assert SingletonMeta.current(AUPRepository) is None
    assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)] == [
        signal.SIG_IGN,
        signal.SIG_IGN,
    ]
    events = [each["event"] for each in logs if each["log_level"] == "info"]
    assert events == ["started", "stopping", "drain started", "stopped"]
    (stopped,) = [each for each in logs if each["event"] == "stopped"]
    assert stopped["balanced"]
    assert (stopped["received"], stopped["recorded"], stopped["dead_lettered"]) == (21, 20, 1)
    assert (stopped["held"], stopped["in_flight"]) == (0, 0)
    assert stopped["calls"]["ReceiveMessage"] >= 1


async def test_second_signal_stops_immediately_without_loss(
    pair_seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = await _world()
    probe = world.sqs.delete_message_batch

    async def delete(**request: Any) -> Any:
        if world.records():  # these messages stay in flight until their delete returns
            await asyncio.Event().wait()
        return await probe(**request)

    monkeypatch.setattr(world.sqs, "delete_message_batch", delete)
    await world.push(*(_good(each) for each in range(5)))
    task = await _serving(world, _settings())
    await _until(lambda: len(world.records()) == 5)
    begun_at = time.monotonic()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.03)
    assert not task.done()
    await _insist(task)
    with pytest.raises(GaveUpError, match=r"stopped immediately: .* become visible again within"):
        await asyncio.wait_for(task, 10)
    assert pair_seconds <= time.monotonic() - begun_at < 5
    assert world.session.open_count == 0
    kept = len(world.bodies(SOURCE))
    assert kept + len(world.records()) >= 5


async def _insist(task: asyncio.Task[None]) -> None:
    """Send signals until the service ends."""
    async with asyncio.timeout(10):
        while not task.done():
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0.02)


async def test_second_signal_after_the_drain_is_no_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @asynccontextmanager
    async def followed_by_a_signal(status: ServiceStatus) -> AsyncIterator[None]:
        async with summaries(status):
            yield
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(10)
        pytest.fail("the signal has no effect")

    monkeypatch.setattr("worker.runtime.signals._PAIR_SECONDS", 0.0)
    monkeypatch.setattr("worker.service.summaries", followed_by_a_signal)
    world = await _world()
    await world.push(*(_good(each) for each in range(5)))
    task = await _serving(world, _settings())
    await _until(lambda: len(world.records()) == 5)
    with capture_logs() as logs:
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 5)
    assert [each["event"] for each in logs][-2:] == ["stopped", "stopping immediately"]


async def test_pair_of_signals_counts_as_one() -> None:
    world = await _world()
    await world.push(*(_good(each) for each in range(5)))
    with capture_logs() as logs:
        task = await _serving(world, _settings())
        await _until(lambda: not world.bodies(SOURCE))
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        await asyncio.wait_for(task, 10)
    assert [each["event"] for each in logs].count("stopping") == 1
    assert logs[-1]["event"] == "stopped"


@pytest.mark.usefixtures("_restored_logs")
async def test_unwritable_log_lines_are_counted_and_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stderr", _Full())
    configure("debug", "json")
    world = await _world()
    await world.push(*(_good(each) for each in range(20)), "{")
    task = await _serving(world, _settings(summary_seconds=0.02))
    await _until(lambda: not world.bodies(SOURCE))
    full = sys.stderr
    assert isinstance(full, _Full)
    full.is_full = False
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert len(world.records()) == 20
    stopped = json.loads(full.getvalue().splitlines()[-1])
    assert stopped["event"] == "stopped"
    assert stopped["log_lines_dropped"] == stopped["events"]["log_lines_dropped"] == full.refused


class _Full(io.StringIO):
    """Stream on a full disk, until `is_full` is false."""

    def __init__(self) -> None:
        super().__init__()
        self.is_full = True
        self.refused = 0

    def write(self, text: str) -> int:
        if self.is_full:
            self.refused += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(text)


@pytest.fixture
def _restored_logs() -> Iterator[None]:
    yield
    structlog.reset_defaults()


def _slow_down(world: World) -> None:
    world.faults.durations = replace(
        world.faults.durations, min_latency_seconds=30.0, max_latency_seconds=30.0
    )


@pytest.mark.usefixtures("pair_seconds")
async def test_endpoints_respond_during_the_drain_and_close_after_it(
    unused_port: int,
) -> None:
    world = await _world()
    task = await _serving(world, _settings(health_port=unused_port))
    async with asyncio.timeout(10):
        while await _readiness(unused_port) != 200:  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.005)
    _slow_down(world)
    await asyncio.sleep(0.03)
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.03)
    assert await _readiness(unused_port) == 503
    await _insist(task)
    with pytest.raises(GaveUpError, match="stopped immediately"):
        await asyncio.wait_for(task, 10)
    with pytest.raises(aiohttp.ClientConnectionError):
        await _readiness(unused_port)


async def _readiness(port: int) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as response,
    ):
        report = await response.json()
        assert report["ready"] is (response.status == 200)
        return response.status


async def test_failed_background_task_is_logged_and_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setenv("NOTIFY_SOCKET", "@nobody")
    monkeypatch.setattr("worker.observability.systemd.Systemd.run", fail)
    world = await _world()
    await world.push(_good(1))
    with capture_logs() as logs:
        task = await _serving(world, _settings())
        await _until(lambda: len(world.records()) == 1)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    events = [each["event"] for each in logs]
    assert events.count("background task failed") == 1
    assert events[-1] == "stopped"


async def test_signal_during_the_start_ends_the_service_without_a_poll() -> None:
    world = await _world()
    await world.push(_good(1))
    task = await _serving(world, _settings())
    _slow_down(world)
    assert not world.sqs.queue(SOURCE).received_count
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(task, 10)
    assert not world.sqs.queue(SOURCE).received_count
    assert world.session.open_count == 0


async def test_summary_is_logged_at_intervals() -> None:
    world = await _world()
    await world.push(*(_good(each) for each in range(10)))
    with capture_logs() as logs:
        task = await _serving(world, _settings(summary_seconds=0.02))
        await _until(lambda: not world.bodies(SOURCE))
        await _until(lambda: sum(each["event"] == "summary" for each in logs) >= 2)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(task, 10)
    last = [each for each in logs if each["event"] == "summary"][-1]
    assert last["recorded"] + last["held"] <= 10
    assert last["balanced"]
    assert "rate_per_second" in last


async def test_settings_that_do_not_fit_the_queues_end_the_service_before_the_first_poll() -> None:
    world = await _world()
    await world.push(_good(1))
    world.sqs.queue(SOURCE).configure({"FifoQueue": "true"})
    task = await _serving(world, _settings())
    with pytest.raises(SettingsError, match="name a standard queue: --queue"):
        await asyncio.wait_for(task, 10)
    assert world.sqs.queue(SOURCE).received_count == 0
    assert world.session.open_count == 0


async def test_service_can_be_cancelled() -> None:
    world = await _world()
    task = await _serving(world, _settings())
    await asyncio.sleep(0.02)
    task.cancel()
    await asyncio.wait([task], timeout=10)
    assert task.cancelled()
    assert world.session.open_count == 0


class _Attempts:
    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> Settings:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return settings()


async def _start(deadline: float, attempts: _Attempts) -> Settings:
    return await retry(service.START_RETRIES, attempts, until=deadline, on_retry=service.log_retry)


@simulated
async def test_start_waits_for_the_network() -> None:
    attempts = _Attempts(*[AWSUnavailableError("no route"), AWSThrottledError("slow")] * 5)
    assert await _start(300.0, attempts) == settings()
    assert attempts.count == 11


@simulated
async def test_start_ends_without_a_network() -> None:
    attempts = _Attempts(*[AWSUnavailableError("no route")] * 1000)
    with pytest.raises(AWSUnavailableError):
        await _start(60.0, attempts)
    assert asyncio.get_running_loop().time() <= 60
    assert attempts.count > 5


@simulated
async def test_denied_start_is_not_retried() -> None:
    attempts = _Attempts(AWSDeniedError("no"))
    with pytest.raises(AWSDeniedError):
        await _start(60.0, attempts)
    assert attempts.count == 1
