"""State that the worker goes on, whatever one message does, or ends where all can see it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from tests.pitfalls.carrying import Carrying, SlowLedger, now
from tests.simulation.virtual_clock import run, simulated
from tests.unit.fakes import (
    FakeAcceptanceStore,
    body,
    open_world,
    policy,
    settings,
)
from worker.cli.app import main
from worker.domain import admission
from worker.domain.outcome import OutcomeKind
from worker.errors import AWSRejectedError
from worker.pipeline import settle
from worker.pipeline.lease import Leases
from worker.pipeline.receive import Receiver
from worker.pipeline.settle import Settler
from worker.repository import RecordResult
from worker.service import serve
from worker.settings import Settings

SLOTS = 4
SPOILT = 3 * SLOTS


@pytest.mark.parametrize("stage", [Receiver, Leases])
def test_a_stage_that_dies_ends_the_process_with_exit_code_1(
    stage: type[Receiver | Leases],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def die(_: object) -> None:
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    async def serving(_: Settings) -> None:
        world = await open_world()
        async with asyncio.timeout(10):
            await serve(settings(wait_seconds=0), session=cast("Any", world.session))

    monkeypatch.setattr(stage, "run", die)
    monkeypatch.setattr("worker.cli.run.serve", serving)
    monkeypatch.setattr("worker.cli.run.configure", lambda *_: None)
    monkeypatch.setattr("sys.argv", ["aup-worker", "run"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    assert "failed: ZeroDivisionError" in capsys.readouterr().err


class _Spoiling:
    """Let the first deliveries end in one way; those that follow are good.

    Args:
        carrying: what is spoilt.
        ledger: its ledger.
        patch: puts something in the place of a part of it.
    """

    def __init__(
        self, carrying: Carrying, store: FakeAcceptanceStore, patch: pytest.MonkeyPatch
    ) -> None:
        self.world = carrying.world
        self.store = store
        self.patch = patch
        self.spoilt = 0
        self.is_over = False

    def results(self, result: RecordResult | Exception) -> None:
        """Let the ledger answer so."""
        self.store.results = [result] * SPOILT
        self.spoilt = SPOILT

    def raise_from(self, owner: object, name: str) -> None:
        """Let a part of the worker itself fail."""
        whole = getattr(owner, name)

        def fail(*arguments: Any, **named: Any) -> Any:
            if self.spoilt < SPOILT and not self.is_over:
                self.spoilt += 1
                raise ZeroDivisionError
            return whole(*arguments, **named)

        self.patch.setattr(owner, name, fail)


def _break_decoding(spoiling: _Spoiling) -> None:
    spoiling.raise_from(admission, "read")


def _break_lookup(spoiling: _Spoiling) -> None:
    spoiling.raise_from(spoiling.store, "policy")


def _break_deleting(spoiling: _Spoiling) -> None:
    spoiling.raise_from(Settler, "_delete")


def _break_return(spoiling: _Spoiling) -> None:
    spoiling.raise_from(Settler, "_return")
    spoiling.store.results = [AWSRejectedError("no")] * SPOILT


def _break_dead_letter(spoiling: _Spoiling) -> None:
    spoiling.raise_from(settle, "to_dead_letter")
    spoiling.store.results = [RecordResult.CONFLICT] * SPOILT


def _refuse_deletes(spoiling: _Spoiling) -> None:
    spoiling.raise_from(spoiling.world.sqs, "delete_message_batch")


def _refuse_letters(spoiling: _Spoiling) -> None:
    spoiling.raise_from(spoiling.world.sqs, "send_message_batch")
    spoiling.store.results = [RecordResult.CONFLICT] * SPOILT


WAYS: dict[str, Callable[[_Spoiling], None]] = {
    "recorded": lambda spoiling: spoiling.results(RecordResult.RECORDED),
    "a duplicate": lambda spoiling: spoiling.results(RecordResult.DUPLICATE),
    "a conflict, dead-lettered": lambda spoiling: spoiling.results(RecordResult.CONFLICT),
    "returned": lambda spoiling: spoiling.results(AWSRejectedError("no")),
    "recording fails": lambda spoiling: spoiling.results(ZeroDivisionError()),
    "decoding fails": _break_decoding,
    "looking up the policy fails": _break_lookup,
    "deleting fails": _break_deleting,
    "the call that deletes fails": _refuse_deletes,
    "returning fails": _break_return,
    "writing the dead letter fails": _break_dead_letter,
    "the call that sends dead letters fails": _refuse_letters,
}


async def _goes_on(carrying: Carrying, store: FakeAcceptanceStore) -> None:
    """Check that good messages are recorded still, as many as the slots ten times over."""
    before = len(store.recorded)
    await carrying.world.push(*(body(number) for number in range(1000, 1000 + 10 * SLOTS)))
    wanted = {f"event-{number}" for number in range(1000, 1000 + 10 * SLOTS)}
    await carrying.until(
        lambda: wanted <= {each.event_id for each in store.recorded[before:]}, 100, "it goes on"
    )


@pytest.mark.parametrize("way", WAYS)
def test_slot_is_released_for_every_outcome(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def story() -> None:
        world, store = await open_world(), FakeAcceptanceStore(policy())
        await world.push(*(body(number) for number in range(SPOILT)))
        carrying = Carrying(world, store, slots=SLOTS, visibility_timeout_seconds=3600)
        spoiling = _Spoiling(carrying, store, monkeypatch)
        WAYS[way](spoiling)
        await carrying.until(
            lambda: (
                carrying.pipeline.metrics.accounting.received >= SPOILT
                and carrying.pipeline.metrics.accounting.held == 0
            ),
            300,
            "the spoilt ones have ended",
        )
        assert spoiling.spoilt, "nothing was spoilt"
        spoiling.is_over = True
        await _goes_on(carrying, store)
        await carrying.stop()

    run(story)


@simulated
async def test_slot_is_released_on_cancellation() -> None:
    store = SlowLedger(lambda user: 0.0 if len(user) == len("u-1000") else 10_000.0)
    carrying = Carrying(await open_world(), store, slots=SLOTS)
    await carrying.world.push(*(body(number) for number in range(SLOTS)))
    await carrying.until(lambda: len(store.recorded) == SLOTS, 10, "every slot is taken")
    for task in asyncio.all_tasks():
        if "Processor.process" in str(task.get_coro()):
            task.cancel()
    await asyncio.sleep(0)
    assert carrying.pipeline.slots.in_flight == 0
    carrying.task.cancel()
    await asyncio.wait([carrying.task])


@simulated
async def test_a_poll_that_fails_or_brings_nothing_gives_its_slots_back() -> None:
    store = FakeAcceptanceStore(policy())
    carrying = Carrying(await open_world(), store, slots=SLOTS, wait_seconds=1)
    for _ in range(SPOILT):
        carrying.world.faults.break_down("sqs")
        await asyncio.sleep(30)
        carrying.world.faults.mend("sqs")
        await asyncio.sleep(30)
    assert carrying.events["poll_failures"] >= SPOILT
    assert carrying.events["empty_polls"] >= SPOILT
    await _goes_on(carrying, store)
    await carrying.stop()


@simulated
async def test_one_slow_message_of_ten_does_not_hold_up_the_next_polls() -> None:
    store = SlowLedger(lambda user: 10_000.0 if user == "u-3" else 0.1)
    world = await open_world()
    await world.push(*(body(number) for number in range(210)))
    carrying = Carrying(world, store, slots=20, poll_concurrency=1)
    begun_at = now()
    await carrying.until(
        lambda: carrying.kinds[OutcomeKind.RECORDED] == 209, 60, "all but the slow one are recorded"
    )
    assert now() - begun_at < 60
    assert carrying.pipeline.metrics.accounting.held == 1
    await carrying.stop()
    assert carrying.kinds == {OutcomeKind.RECORDED: 209, OutcomeKind.RETURNED: 1}
