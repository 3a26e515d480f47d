"""Tests of the wiring: numbers from the settings, and shared objects."""

from __future__ import annotations

import asyncio

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import FakeAcceptanceStore, FakeQueue, clock, policy, settings
from worker.errors import GaveUpError
from worker.pipeline.assembly import assemble
from worker.pipeline.metrics import Metrics


@simulated
async def test_pipeline_uses_the_given_metrics_and_stop_request() -> None:
    metrics, stopping = Metrics(), asyncio.Event()
    pipeline = assemble(
        (FakeQueue(), FakeQueue()),
        FakeAcceptanceStore(policy()),
        settings(),
        metrics=metrics,
        stopping=stopping,
        now=clock,
    )
    assert pipeline.metrics is metrics
    assert pipeline.stopping is stopping
    assert pipeline.health is pipeline.state.health
    pipeline.give_up(GaveUpError("no"))
    assert stopping.is_set()


@simulated
async def test_limits_come_from_the_settings() -> None:
    pipeline = assemble(
        (FakeQueue(), FakeQueue()),
        FakeAcceptanceStore(policy()),
        settings(slots=40, held_mib=8, visibility_timeout_seconds=90),
        metrics=Metrics(),
    )
    assert (pipeline.slots.limit, pipeline.slots.limit_bytes) == (40, 8 * 1_048_576)
    assert pipeline.leases.seconds == 90


@simulated
async def test_store_reports_its_calls_to_the_access_watch() -> None:
    store = FakeAcceptanceStore(policy())
    pipeline = assemble((FakeQueue(), FakeQueue()), store, settings(), metrics=Metrics())
    assert store.observer is pipeline.state.access
