"""Tests that no message stops the worker, and that a failed stage ends the process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.pitfalls.running import RunningPipeline, SlowStore, now
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import (
    FakeAcceptanceStore,
    body,
    open_world,
    policy,
    settings,
)
from worker.cli.app import main
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSRejectedError
from worker.pipeline import decode as decoding
from worker.pipeline import settle
from worker.pipeline.lease import Leases
from worker.pipeline.receive import Receiver
from worker.pipeline.settle import Settler
from worker.repository import RecordResult
from worker.service import serve
from worker.settings import Settings

SLOTS = 4
FAILURE_COUNT = 3 * SLOTS


@pytest.mark.parametrize("stage", [Receiver, Leases])
def test_failed_stage_ends_the_process_with_exit_code_1(
    stage: type[Receiver | Leases],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def fail(_: object) -> None:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async def serving(_: Settings) -> None:
        world = await open_world()
        async with asyncio.timeout(10):
            await serve(settings(wait_seconds=0), session=cast("Any", world.session))

    monkeypatch.setattr(stage, "run", fail)
    monkeypatch.setattr("worker.service.serve", serving)
    monkeypatch.setattr("worker.cli.run.configure", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["aup-worker", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "failed: ZeroDivisionError" in capsys.readouterr().err


class _FailureInjector:
    """Injector of failures into the first messages; later messages succeed.

    Args:
        running: Pipeline to make fail.
        store: Its acceptance store.
        patch: Replaces parts of the pipeline.
    """

    def __init__(
        self, running: RunningPipeline, store: FakeAcceptanceStore, patch: pytest.MonkeyPatch
    ) -> None:
        self.world = running.world
        self.store = store
        self.patch = patch
        self.injected_count = 0
        self.is_finished = False

    def results(self, result: RecordResult | Exception) -> None:
        """Make the store return or raise `result`."""
        self.store.results = [result] * FAILURE_COUNT
        self.injected_count = FAILURE_COUNT

    def raise_from(self, owner: object, name: str) -> None:
        """Make a function of the worker fail."""
        whole = getattr(owner, name)

        def fail(*arguments: Any, **named: Any) -> Any:
            if self.injected_count < FAILURE_COUNT and not self.is_finished:
                self.injected_count += 1
                raise ZeroDivisionError
            return whole(*arguments, **named)

        self.patch.setattr(owner, name, fail)


def _break_decoding(injector: _FailureInjector) -> None:
    injector.raise_from(decoding, "decode_body")


def _break_lookup(injector: _FailureInjector) -> None:
    injector.raise_from(injector.store, "known_policy")


def _break_deleting(injector: _FailureInjector) -> None:
    injector.raise_from(Settler, "_delete")


def _break_return(injector: _FailureInjector) -> None:
    injector.raise_from(Settler, "_return")
    injector.store.results = [AWSRejectedError("no")] * FAILURE_COUNT


def _break_dead_letter(injector: _FailureInjector) -> None:
    injector.raise_from(settle, "to_dead_letter")
    injector.store.results = [RecordResult.CONFLICT] * FAILURE_COUNT


def _reject_deletes(injector: _FailureInjector) -> None:
    injector.raise_from(injector.world.sqs, "delete_message_batch")


def _reject_dead_letters(injector: _FailureInjector) -> None:
    injector.raise_from(injector.world.sqs, "send_message_batch")
    injector.store.results = [RecordResult.CONFLICT] * FAILURE_COUNT


CASES: dict[str, Callable[[_FailureInjector], None]] = {
    "recorded": lambda injector: injector.results(RecordResult.RECORDED),
    "a duplicate": lambda injector: injector.results(RecordResult.DUPLICATE),
    "a conflict, dead-lettered": lambda injector: injector.results(RecordResult.CONFLICT),
    "returned": lambda injector: injector.results(AWSRejectedError("no")),
    "recording fails": lambda injector: injector.results(ZeroDivisionError()),
    "decoding fails": _break_decoding,
    "looking up the policy fails": _break_lookup,
    "deleting fails": _break_deleting,
    "the delete call fails": _reject_deletes,
    "returning fails": _break_return,
    "writing the dead letter fails": _break_dead_letter,
    "the send call for dead letters fails": _reject_dead_letters,
}


async def _check_progress(running: RunningPipeline, store: FakeAcceptanceStore) -> None:
    """Check that valid messages are still recorded, ten times as many as there are slots."""
    before = len(store.recorded)
    await running.world.push(*(body(number) for number in range(1000, 1000 + 10 * SLOTS)))
    wanted = {f"event-{number}" for number in range(1000, 1000 + 10 * SLOTS)}
    await running.until(
        lambda: wanted <= {each.event_id for each in store.recorded[before:]},
        100,
        "all are recorded",
    )


@pytest.mark.parametrize("case", CASES)
def test_slot_is_released_for_every_outcome(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        world, store = await open_world(), FakeAcceptanceStore(policy())
        await world.push(*(body(number) for number in range(FAILURE_COUNT)))
        running = RunningPipeline(world, store, slots=SLOTS, visibility_timeout_seconds=3600)
        injector = _FailureInjector(running, store, monkeypatch)
        CASES[case](injector)
        await running.until(
            lambda: (
                running.pipeline.metrics.accounting.received >= FAILURE_COUNT
                and running.pipeline.metrics.accounting.held == 0
            ),
            300,
            "the affected messages are settled",
        )
        assert injector.injected_count, "no failure was injected"
        injector.is_finished = True
        await _check_progress(running, store)
        await running.stop()

    run(scenario)


@simulated
async def test_slot_is_released_on_cancellation() -> None:
    store = SlowStore(lambda user: 0.0 if len(user) == len("u-1000") else 10_000.0)
    running = RunningPipeline(await open_world(), store, slots=SLOTS)
    await running.world.push(*(body(number) for number in range(SLOTS)))
    await running.until(lambda: len(store.recorded) == SLOTS, 10, "every slot is in use")
    for task in asyncio.all_tasks():
        if "InFlight._run" in str(task.get_coro()):
            task.cancel()
    await asyncio.sleep(0)
    assert running.pipeline.slots.in_flight == 0
    running.task.cancel()
    await asyncio.wait([running.task])


@simulated
async def test_failed_or_empty_poll_releases_its_slots() -> None:
    store = FakeAcceptanceStore(policy())
    running = RunningPipeline(await open_world(), store, slots=SLOTS, wait_seconds=1)
    for _ in range(FAILURE_COUNT):
        running.world.faults.break_down("sqs")
        await asyncio.sleep(30)
        running.world.faults.recover("sqs")
        await asyncio.sleep(30)
    assert running.events["poll_failures"] >= FAILURE_COUNT
    assert running.events["empty_polls"] >= FAILURE_COUNT
    await _check_progress(running, store)
    await running.stop()


@simulated
async def test_one_slow_message_of_ten_does_not_delay_the_next_polls() -> None:
    store = SlowStore(lambda user: 10_000.0 if user == "u-3" else 0.1)
    world = await open_world()
    await world.push(*(body(number) for number in range(210)))
    running = RunningPipeline(world, store, slots=20, poll_concurrency=1)
    begun_at = now()
    await running.until(
        lambda: running.kinds[OutcomeKind.RECORDED] == 209, 60, "all but the slow one are recorded"
    )
    assert now() - begun_at < 60
    assert running.pipeline.metrics.accounting.held == 1
    await running.stop()
    assert running.kinds == {OutcomeKind.RECORDED: 209, OutcomeKind.RETURNED: 1}
