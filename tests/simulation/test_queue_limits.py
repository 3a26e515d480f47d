"""Tests of large messages with queues whose size limit is below that of SQS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from structlog.testing import capture_logs

from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, World, body, clock, open_world, policy, settings
from worker.domain.dead_letter import read
from worker.domain.message import OutgoingMessage
from worker.operations.doctor.preflight import check
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics

KIB_256 = 262_144


async def _world(source_bytes: int, dead_letter_bytes: int, max_receive_count: int = 6) -> World:
    world = await open_world(max_receive_count=max_receive_count)
    world.sqs.queue(SOURCE).configure({"MaximumMessageSize": str(source_bytes)})
    world.sqs.queue(DEAD_LETTERS).configure({"MaximumMessageSize": str(dead_letter_bytes)})
    return world


@asynccontextmanager
async def _running(world: World) -> AsyncIterator[Pipeline]:
    repository = world.repository()
    await repository.publish_policy(policy())
    fitted = await check(settings(max_attempts=4), world.source, world.dead_letters, repository)
    pipeline = assemble(
        (world.source, world.dead_letters), repository, fitted, metrics=Metrics(), now=clock
    )
    task = asyncio.create_task(pipeline.run())
    yield pipeline
    pipeline.stopping.set()
    await task
    accounting = pipeline.metrics.accounting
    assert (accounting.is_balanced, accounting.held, pipeline.slots.in_flight) == (True, 0, 0)


async def _until(pipeline: Pipeline, **expected: Any) -> None:
    async with asyncio.timeout(10_000):
        while not pipeline.metrics.accounting.figures().items() >= expected.items():  # noqa: ASYNC110 - virtual time
            await asyncio.sleep(0.5)


async def _dead_letters(world: World) -> list[tuple[str, str | None]]:
    found: list[tuple[str, str | None]] = []
    while messages := await world.dead_letters.receive(
        10, wait_seconds=0, visibility_timeout_seconds=300
    ):
        for each in messages:
            info = read(each)
            found.append((each.body, None if info is None else info.reason))
    return found


@simulated
async def test_invalid_bodies_near_the_limit_are_dead_lettered_at_the_first_receive() -> None:
    world = await _world(KIB_256, KIB_256)
    near = ["{" + str(number) * (KIB_256 - 1 - 100 * number) for number in range(10)]
    await world.push(*near)
    async with _running(world) as pipeline:
        await _until(pipeline, dead_lettered=10)
        assert pipeline.metrics.events["dead_letter_failed"] == 0
        assert pipeline.metrics.accounting.received == 10
    dead_letters = await _dead_letters(world)
    assert sorted(text for text, _ in dead_letters) == sorted(near)
    # At the limit itself there is no space for attributes.
    assert [reason for _, reason in dead_letters].count("malformed") == 9
    assert world.bodies(SOURCE) == []


@simulated
async def test_message_that_cannot_be_dead_lettered_is_left_to_redrive_and_fails_no_other() -> None:
    world = await _world(1_048_576, KIB_256)
    large = "{" + "x" * 300_000
    small = [f"[{number}" for number in range(9)]
    with capture_logs() as logs:
        async with _running(world) as pipeline:
            await world.push(large, *small)
            await _until(pipeline, dead_lettered=9)
            problems = [
                each for each in pipeline.health.why_not_ready() if "cannot be sent" in each
            ]
            assert len(problems) == 1
            assert problems[0].startswith("1 dead letters cannot be sent: ")
            await world.push(*(body(number) for number in range(20)))
            await _until(pipeline, recorded=20)
            async with asyncio.timeout(10_000):
                while world.bodies(SOURCE):  # noqa: ASYNC110 - virtual time
                    await asyncio.sleep(1)
            events = dict(pipeline.metrics.events)
            await asyncio.sleep(500)
            assert pipeline.health.why_not_ready() == []
    assert sorted(await _dead_letters(world)) == sorted(
        [(large, None), *((s, "malformed") for s in small)]
    )
    assert events["left_to_redrive"] == 3, "the receives 4 to 6"
    left = [each for each in logs if each["event"] == "message left to the redrive policy"]
    assert [each["reason"] for each in left] == ["malformed"] * 3


@simulated
async def test_without_a_redrive_policy_the_message_stays_and_is_reported() -> None:
    world = await _world(1_048_576, KIB_256, max_receive_count=0)
    await world.push("{" + "x" * 300_000)
    async with _running(world) as pipeline:
        await asyncio.sleep(3600)
        events = pipeline.metrics.events
        # Four attempts, then one in five minutes.
        assert 10 <= events["dead_letter_failed"] <= 18
        assert events["left_to_redrive"] == events["dead_letter_failed"] - 3
        assert any(
            "1 dead letters cannot be sent" in each for each in pipeline.health.why_not_ready()
        )
        world.sqs.queue(DEAD_LETTERS).configure({"MaximumMessageSize": "1048576"})
        await _until(pipeline, dead_lettered=1)
        assert pipeline.health.why_not_ready() == []
    assert world.bodies(SOURCE) == []


@simulated
async def test_first_poll_expects_messages_of_the_queues_own_limit() -> None:
    world = await _world(KIB_256, KIB_256)
    async with _running(world) as pipeline:
        await asyncio.sleep(0.1)
        assert pipeline.slots.bytes_in_flight == pipeline.slots.in_flight * KIB_256


@simulated
async def test_large_outgoing_messages_share_a_batch_up_to_the_limit_of_sqs() -> None:
    world = await _world(KIB_256, KIB_256)
    sent = await world.source.send([OutgoingMessage("x" * KIB_256)] * 4)
    assert sent == [None] * 4
    assert world.calls["SendMessageBatch"] == 1
