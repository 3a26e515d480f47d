"""Tests that calls never wait for a connection and that connections are opened once."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import pytest

from tests.pitfalls.holding_server import HoldingServer, holding_server
from tests.pitfalls.running import RunningPipeline, messages
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.virtual_clock import simulated
from tests.unit.fakes import DEAD_LETTERS, SOURCE, body, clock, open_world, policy, settings
from worker.aws.sqs import open_queues
from worker.domain.outcome import OutcomeKind
from worker.pipeline.assembly import Pipeline, assemble
from worker.pipeline.metrics import Metrics
from worker.repository import AUPRepository
from worker.settings import AWSSettings, Settings

POLLS: Final = 3
SETTLES: Final = 2
WRITES: Final = 2
# Connections for policy reads, in addition to those for writes and lookups.
POLICY_READS: Final = 4
DEADLINE_SECONDS: Final = 40.0


def _settings(url: str) -> Settings:
    return settings(
        aws=AWSSettings(
            region="eu-west-1",
            sqs_endpoint_url=url,
            dynamodb_endpoint_url=url,
            write_concurrency=WRITES,
            call_timeout_seconds=60,
        ),
        queue=f"{url}/000000000000/{SOURCE}",
        dead_letter_queue=f"{url}/000000000000/{DEAD_LETTERS}",
        poll_concurrency=POLLS,
        settle_concurrency=SETTLES,
        visibility_timeout_seconds=8,
        wait_seconds=20,
    )


@asynccontextmanager
async def _pipeline_at(server: HoldingServer) -> AsyncIterator[Pipeline]:
    """Yield a running pipeline with real clients; release the server before the drain."""
    chosen = _settings(server.url)
    repository = AUPRepository(chosen.aws)
    metrics = Metrics(calls=repository.calls)
    async with repository, open_queues(chosen, calls=metrics.calls) as (source, dead_letters):
        pipeline = assemble((source, dead_letters), repository, chosen, metrics=metrics)
        running = asyncio.create_task(pipeline.run())
        try:
            yield pipeline
        finally:
            pipeline.stopping.set()
            server.release()
            await running


async def _until(holds: Callable[[], bool], pipeline: Pipeline, server: HoldingServer) -> None:
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not holds():  # noqa: ASYNC110 - the server sends no notification
                await asyncio.sleep(0.02)
    except TimeoutError:
        pytest.fail(f"calls: {pipeline.metrics.calls}; held by the server: {server.pending}")


def _bodies(user: str, count: int, **changes: Any) -> list[str]:
    return [
        body(number, user_id=f"{user}-{number}-user", accepted_at="2020-01-01T00:00:00Z", **changes)
        for number in range(count)
    ]


async def test_calls_do_not_wait_for_connections_with_every_bound_reached() -> None:
    async with holding_server() as server, _pipeline_at(server) as pipeline:
        # The last response is more than half full, so no poller ends.
        many = 10 * SETTLES + 6
        # Causes lookups and lease extensions, deletes, returns, dead letters and policy reads.
        server.send(*_bodies("known", many), *_bodies("good", many), *_bodies("odd", many))
        server.send(*(f"not an acceptance {number}" for number in range(many)))
        for number in range(POLICY_READS):
            server.send(*_bodies("good", 1, version=f"never-{number}"))
        received = 4 * many + POLICY_READS
        await _until(lambda: pipeline.metrics.accounting.received == received, pipeline, server)
        expected = Counter(
            ReceiveMessage=POLLS,
            DeleteMessageBatch=SETTLES,
            SendMessageBatch=SETTLES,
            ChangeMessageVisibilityBatch=2 * SETTLES,  # returns and extensions
            GetItem=WRITES + POLICY_READS,
        )
        await _until(lambda: +server.pending == expected, pipeline, server)
        server.send(*_bodies("stuck", 60))
        expected["BatchExecuteStatement"] = WRITES
        await _until(lambda: +server.pending == expected, pipeline, server)
        assert pipeline.metrics.calls == server.arrived


async def test_reads_of_many_policies_wait_before_they_need_a_connection() -> None:
    async with holding_server() as server, _pipeline_at(server) as pipeline:
        many = 40
        for number in range(many):
            server.send(*_bodies("good", 1, version=f"never-{number}"))
        await _until(lambda: pipeline.metrics.accounting.received == many, pipeline, server)
        await _until(lambda: pipeline.metrics.calls == server.arrived, pipeline, server)


@simulated
async def test_sessions_and_clients_are_created_once_despite_failed_calls(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await open_world()
    sessions: list[SimulatedSession] = []

    def new_session() -> Any:
        sessions.append(SimulatedSession(world.sqs, world.dynamodb))
        return sessions[-1]

    monkeypatch.setattr("worker.aws.sqs.new_session", new_session)
    monkeypatch.setattr("worker.repository.dynamodb.new_session", new_session)
    chosen = settings()
    repository = AUPRepository(chosen.aws, now=clock)
    async with repository, open_queues(chosen) as (source, dead_letters):
        await repository.publish_policy(policy())
        world.source, world.dead_letters = source, dead_letters
        running = RunningPipeline(world, repository)
        source_queue = world.sqs.queue(SOURCE)
        for start in range(0, 1000, 250):
            for service in ("sqs", "dynamodb"):
                world.faults.break_down(service)
                for number in range(start, start + 125):
                    source_queue.send(body(number), {}, {}, None)
                await asyncio.sleep(30)
                world.faults.recover(service)
                await asyncio.sleep(30)
                start += 125  # noqa: PLW2901 - second half of the range
        await running.until(lambda: not messages(world), 300, "all are processed")
        await running.stop()
        assert running.kinds[OutcomeKind.RECORDED] >= 900
        assert len(world.records()) == 1000
        openings = [(each, service) for one in sessions for each, service, _ in one.openings]
        assert sorted(openings) == [("client", "sqs"), ("client", "sqs"), ("resource", "dynamodb")]
        assert len(sessions) == 2, "one session for the queues, one for the table"
        assert sum(each.open_count for each in sessions) == 3
    assert sum(each.open_count for each in sessions) == 0
