"""Metrics in Prometheus' text format."""

from __future__ import annotations

import asyncio
import re
import time
from copy import deepcopy

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.monitoring import FakePipeline, status_of
from worker.domain.outcome import RECORDED, Outcome
from worker.errors import Reason
from worker.observability.prometheus import BUCKETS_SECONDS, exposition
from worker.observability.service_status import ServiceStatus
from worker.pipeline.metrics import Durations

Samples = dict[tuple[str, str], float]


def _samples(status: ServiceStatus) -> Samples:
    """Return each sample by its name and the value of its own label."""
    own = {"outcome", "reason", "operation", "event", "state", "le", "version"}
    families = list(text_string_to_metric_families(exposition(status)().decode()))
    for family in families:
        assert family.documentation, family.name
        assert re.fullmatch(r"[a-z_]+", family.name)
    return {
        (sample.name, next((v for k, v in sample.labels.items() if k in own), "")): sample.value
        for family in families
        for sample in family.samples
    }


async def test_samples_are_the_current_counters() -> None:
    pipeline = FakePipeline()
    status = status_of(pipeline)
    for outcome in (RECORDED, RECORDED, Outcome.dead_lettered(Reason.CONFLICT, "")):
        pipeline.metrics.accounting.open()
        pipeline.metrics.accounting.close(outcome)
    pipeline.metrics.accounting.open()
    pipeline.metrics.calls["PutItem"] += 5
    pipeline.metrics.events["lease_lost"] += 2
    pipeline.slots.in_flight, pipeline.slots.filled = 4, 1
    pipeline.health.polled_at = asyncio.get_running_loop().time() - 3
    samples = _samples(status)
    assert samples["aup_messages_received_total", ""] == 4
    assert samples["aup_messages_settled_total", "recorded"] == 2
    assert samples["aup_messages_settled_total", "dead"] == 1
    assert samples["aup_dead_letters_total", "conflict"] == 1
    assert samples["aup_messages_held", ""] == 1
    assert samples["aup_aws_calls_total", "PutItem"] == 5
    assert samples["aup_events_total", "lease_lost"] == 2
    assert [samples["aup_slots", state] for state in ("free", "polling", "filled")] == [6, 3, 1]
    assert samples["aup_write_concurrency", ""] == 7
    assert samples["aup_last_poll_timestamp_seconds", ""] == pytest.approx(time.time() - 3, abs=1)
    assert samples["process_resident_memory_bytes", ""] > 1e6
    names = ("books_balanced", "started", "live", "ready")
    assert [samples[f"aup_{name}", ""] for name in names] == [1, 1, 1, 1]
    pipeline.health.not_ready = ["the table fails"]
    pipeline.metrics.accounting.held = 0
    samples = _samples(status)
    assert [samples[f"aup_{name}", ""] for name in names] == [0, 1, 1, 0]


async def test_counters_start_at_zero_for_every_label() -> None:
    samples = _samples(status_of(None))
    for outcome in ("recorded", "duplicate", "dead", "returned"):
        assert samples["aup_messages_settled_total", outcome] == 0
    for reason in Reason:
        assert samples["aup_dead_letters_total", reason.value] == 0
    assert samples["aup_ready", ""] == samples["aup_started", ""] == 0
    assert ("aup_last_poll_timestamp_seconds", "") not in samples


async def test_durations_are_a_histogram_in_seconds() -> None:
    pipeline = FakePipeline()
    for seconds in (0.001, 0.02, 0.02, 3.0, 4000.0):
        pipeline.metrics.settling.add(seconds)
    samples = _samples(status_of(pipeline))
    name = "messaging_process_duration_seconds"
    counts = [samples[f"{name}_bucket", str(bound)] for bound in BUCKETS_SECONDS]
    assert counts == sorted(counts)
    assert samples[f"{name}_bucket", "0.005"] == 1
    assert samples[f"{name}_bucket", "0.025"] == 3
    assert samples[f"{name}_bucket", "5.0"] == samples[f"{name}_bucket", "600.0"] == 4
    assert samples[f"{name}_bucket", "+Inf"] == samples[f"{name}_count", ""] == 5
    assert samples[f"{name}_sum", ""] == pytest.approx(4003.041, rel=0.06)


def test_durations_since_a_copy_exclude_earlier_ones() -> None:
    durations = Durations()
    durations.add(1.0)
    before = deepcopy(durations)
    for _ in range(3):
        durations.add(2.0)
    assert len(before) == 1
    assert len(durations.since(before)) == 3
    assert durations.since(before).quantile(0.01) == pytest.approx(2, rel=0.06)
