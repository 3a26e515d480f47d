"""Tests of texts that are published while their version is cached."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import (
    SOURCE,
    FakeAcceptanceStore,
    World,
    acceptance,
    body,
    open_world,
    policy,
    received_message,
    service_state,
)
from tests.unit.pipeline.running import RunningPipeline, now
from worker.domain.outcome import DUPLICATE, RECORDED, OutcomeKind
from worker.domain.policy import Policy, PolicyText
from worker.errors import AWSUnavailableError, Reason
from worker.pipeline.record import Recorder
from worker.repository import RecordResult

SPANISH: Final = PolicyText("5" * 64, "es")
WRONG: Final = "0" * 64


class _CachedVersion(FakeAcceptanceStore):
    """Store whose cache lacks the Spanish text until it reads the version again."""

    async def policy(self, policy_id: str, version: str, *, recheck: bool = False) -> Policy | None:
        found = await super().policy(policy_id, version, recheck=recheck)
        if found is None or not recheck:
            return found
        return found.model_copy(update={"texts": (SPANISH,)})


@simulated
async def test_only_a_mismatch_rechecks_the_version_and_only_once() -> None:
    store = _CachedVersion(policy())
    recorder = Recorder(store, service_state())
    assert await recorder.record(acceptance(), received_message()) is RECORDED
    store.results = [RecordResult.DUPLICATE]
    assert await recorder.record(acceptance(), received_message()) is DUPLICATE
    unknown = await recorder.record(acceptance(version="never"), received_message())
    assert unknown.kind is OutcomeKind.RETURNED
    assert store.rechecks == 0
    later = acceptance(content_sha256=SPANISH.sha256)
    assert await recorder.record(later, received_message()) is RECORDED
    assert (store.rechecks, store.texts[-1]) == (1, SPANISH)
    refused = await recorder.record(acceptance(content_sha256=WRONG), received_message())
    assert (refused.reason, store.rechecks) == (Reason.CONTENT_MISMATCH, 2)
    assert "and 1 texts in other languages" in refused.detail


@pytest.mark.parametrize(
    ("changes", "rechecks", "locale"),
    [
        ({"content_sha256": None, "locale": "es-ES"}, 1, "es"),
        ({"content_sha256": None, "locale": "ES"}, 1, "es"),
        ({"content_sha256": None, "locale": "fr"}, 1, ""),
        ({"content_sha256": None, "locale": None}, 0, ""),
        ({"content_sha256": None, "locale": ""}, 0, ""),
        ({"content_sha256": policy().content_sha256, "locale": "es"}, 0, ""),
    ],
    ids=str,
)
@simulated
async def test_language_without_a_cached_text_rechecks_the_version_once(
    changes: dict[str, Any], rechecks: int, locale: str
) -> None:
    store = _CachedVersion(policy())
    recorder = Recorder(store, service_state())
    assert await recorder.record(acceptance(**changes), received_message()) is RECORDED
    assert (store.rechecks, store.texts[0].locale) == (rechecks, locale)


@simulated
async def test_text_in_the_language_of_the_acceptance_needs_no_recheck() -> None:
    store = FakeAcceptanceStore(policy().model_copy(update={"texts": (SPANISH,)}))
    recorder = Recorder(store, service_state())
    stated = acceptance(content_sha256=None, locale="ES")
    assert await recorder.record(stated, received_message()) is RECORDED
    assert (store.rechecks, store.texts) == (0, [SPANISH])


@simulated
async def test_message_is_held_while_its_version_cannot_be_rechecked() -> None:
    class Unreachable(FakeAcceptanceStore):
        async def policy(
            self, policy_id: str, version: str, *, recheck: bool = False
        ) -> Policy | None:
            if recheck and now() < 60:
                raise AWSUnavailableError("down")
            return await super().policy(policy_id, version, recheck=recheck)

    recorder = Recorder(Unreachable(policy()), service_state())
    refused = await recorder.record(acceptance(content_sha256=WRONG), received_message())
    assert refused.reason is Reason.CONTENT_MISMATCH
    assert now() >= 60


async def _add_spanish(world: World) -> None:
    """Add a language as another process does, unknown to the cache of this one."""
    await world.dynamodb.put_item(
        TableName="aup-policies",
        Item={
            "policy_id": "acceptable-use#2026-01",
            "version": "1",
            "locale": SPANISH.locale,
            "content_sha256": SPANISH.sha256,
        },
    )


async def _start(policy_absence_seconds: float) -> RunningPipeline:
    world = await open_world()
    repository = world.repository(policy_absence_seconds=policy_absence_seconds)
    await repository.publish_policy(policy())
    return RunningPipeline(world, repository)


@simulated
async def test_text_added_after_the_version_was_cached_is_found() -> None:
    running = await _start(policy_absence_seconds=5)
    await running.world.push(body(0))
    await running.until(recorded=1)
    await _add_spanish(running.world)
    await asyncio.sleep(5)
    await running.world.push(body(1, content_sha256=SPANISH.sha256))
    await running.until(recorded=2)
    await running.world.push(body(2), body(3, content_sha256=None, locale="es_MX"))
    await running.until(recorded=4)
    await running.stop()
    texts = {
        item["user_id"]: (bytes(item["policy_sha256"]).hex(), item.get("policy_locale", ""))
        for item in running.world.records()
    }
    default = (policy().content_sha256, "")
    spanish = (SPANISH.sha256, "es")
    assert texts == {"u-0": default, "u-1": spanish, "u-2": default, "u-3": spanish}


@simulated
async def test_wrong_hashes_cost_one_read_of_the_version_per_absence_time() -> None:
    period, seconds = 5.0, 60
    running = await _start(policy_absence_seconds=period)
    await running.world.push(body(0))
    await running.until(recorded=1)
    reads = running.world.dynamodb.reads
    reads.clear()
    begin = now()
    for second in range(seconds):
        await running.world.push(
            *(body(number, content_sha256=WRONG) for number in range(10 * second, 10 * second + 10))
        )
        await asyncio.sleep(1)
    await running.until(dead_lettered=10 * seconds)
    periods = (now() - begin) / period
    # A read of the version is one of its item, and one of the absence of a language.
    assert periods - 2 <= reads["aup-policies"] / 2 <= periods + 1
    await running.stop()
    assert running.figures["dead_by_reason"] == {"content_mismatch": 10 * seconds}
    assert running.world.bodies(SOURCE) == []
