"""Tests under faults: nothing is lost or recorded twice, and the worker recovers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest

from tests.faults.environment import FaultyEnvironment
from tests.faults.kinds import OF_ENTRIES, OF_STATEMENTS, Fault
from tests.integration.environment import POLICY, stated
from tests.integration.running import until, working
from tests.unit.fakes import TEXT
from worker import service
from worker.aws.sqs import open_queues
from worker.domain.acceptance import Acceptance
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.observability.service_status import PipelineStatus
from worker.pipeline.assembly import Pipeline
from worker.repository import AUPRepository, RecordResult
from worker.runtime.loop_watchdog import EventLoopWatchdog

OF_CALLS = [fault for fault in Fault if fault not in OF_ENTRIES | OF_STATEMENTS]
STALLS = {Fault.STALLED_BEFORE, Fault.STALLED_AFTER}
# Responses with status 200 that are not from AWS.
UNREADABLE_RESPONSES = [Fault.HTML, Fault.GARBAGE, Fault.LIST, Fault.EMPTY, Fault.CUT_BODY]
MESSAGE = ReceivedMessage("id", "handle", "{}")
ACCEPTANCE = Acceptance.model_validate(stated(1))


def probability(fault: Fault) -> float:
    """Return the probability of a fault: every batch may fail, stalls are slow."""
    if fault in OF_ENTRIES | OF_STATEMENTS:
        return 1.0
    return 0.15 if fault in STALLS else 0.35


async def run_with_fault(faulty: FaultyEnvironment, fault: Fault) -> None:
    """Inject a fault for a while and check that every message is settled afterwards."""
    async with working(faulty.settings()) as pipeline:
        faulty.switch_on({fault: probability(fault)})
        await faulty.send_some_of_every_kind()
        await faulty.until_injected(fault, 3 if fault in STALLS else 8)
        faulty.switch_off()
        await faulty.wait_until_settled(pipeline)
    await faulty.assert_each_message_settled_once(pipeline)


@pytest.mark.parametrize("fault", OF_CALLS)
async def test_nothing_is_lost_or_recorded_twice_when_calls_fail(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    await run_with_fault(faulty, fault)


@pytest.mark.parametrize("fault", sorted(OF_ENTRIES))
async def test_nothing_is_lost_or_recorded_twice_when_batch_entries_fail(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    await run_with_fault(faulty, fault)


@pytest.mark.servers
@pytest.mark.parametrize("fault", [*OF_CALLS, *sorted(OF_ENTRIES | OF_STATEMENTS)])
async def test_nothing_is_lost_or_recorded_twice_with_batched_writes(
    faulty_batches: FaultyEnvironment, fault: Fault
) -> None:
    await run_with_fault(faulty_batches, fault)


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.ERROR_HTML, Fault.RESET_BEFORE, Fault.HTML, Fault.GARBAGE]
)
async def test_worker_recovers_from_a_complete_outage(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    async with working(faulty.settings()) as pipeline:
        faulty.switch_on({fault: 1.0})
        await faulty.send_some_of_every_kind()
        await until(lambda: pipeline.metrics.events["poll_failures"] >= 3)
        faulty.switch_off()
        await faulty.wait_until_settled(pipeline)
    await faulty.assert_each_message_settled_once(pipeline)


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.ERROR_JSON, Fault.RESET_AFTER, Fault.HTML, Fault.LIST]
)
async def test_polls_stop_while_the_table_is_down(faulty: FaultyEnvironment, fault: Fault) -> None:
    async with working(faulty.settings()) as pipeline:
        faulty.tables.faults.switch_on({fault: 1.0})
        await faulty.send_some_of_every_kind()
        await until(lambda: pipeline.metrics.events["table_failures"] >= 10)
        faulty.switch_off()
        await faulty.wait_until_settled(pipeline)
    await faulty.assert_each_message_settled_once(pipeline)


# Without EMPTY: every SDK reads an empty 200 as an empty queue.
@pytest.mark.parametrize(
    "fault", [each for each in UNREADABLE_RESPONSES if each is not Fault.EMPTY]
)
async def test_poll_with_an_unreadable_response_is_a_failure_not_an_empty_queue(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    async with working(faulty.settings()) as pipeline:
        events = pipeline.metrics.events
        await until(lambda: events["empty_polls"] >= 1)
        faulty.switch_on({fault: 1.0}, "ReceiveMessage")
        await until(lambda: events["poll_failures"] >= 1)
        empty = events["empty_polls"]
        await until(lambda: events["poll_failures"] >= 3)
        assert events["empty_polls"] == empty
        faulty.switch_off()
        await until(lambda: events["empty_polls"] > empty)


@pytest.mark.parametrize("fault", UNREADABLE_RESPONSES)
async def test_put_counts_only_with_a_readable_response(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    async with AUPRepository(faulty.settings().aws) as repository:
        faulty.switch_on({fault: 1.0}, "PutItem")
        with pytest.raises(AWSUnavailableError, match="PutItem"):
            await repository.record(ACCEPTANCE, TEXT)
        faulty.switch_off()
        stored = len(await faulty.environment.recorded())
        assert stored == (1 if fault is Fault.CUT_BODY else 0)
        again = await repository.record(ACCEPTANCE, TEXT)
        assert again is (RecordResult.DUPLICATE if stored else RecordResult.RECORDED)
    assert len(await faulty.environment.recorded()) == 1


@pytest.mark.servers
@pytest.mark.parametrize("fault", UNREADABLE_RESPONSES)
async def test_statements_count_only_with_a_readable_response(
    faulty_batches: FaultyEnvironment, fault: Fault
) -> None:
    async with AUPRepository(faulty_batches.settings().aws) as repository:
        faulty_batches.switch_on({fault: 1.0}, "BatchExecuteStatement")
        with pytest.raises(AWSUnavailableError, match="BatchExecuteStatement"):
            await repository.record(ACCEPTANCE, TEXT)


@pytest.mark.parametrize("fault", UNREADABLE_RESPONSES)
async def test_policy_is_unknown_only_by_a_readable_response(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    async with AUPRepository(faulty.settings().aws) as repository:
        faulty.switch_on({fault: 1.0}, "GetItem")
        with pytest.raises(AWSUnavailableError, match="GetItem"):
            await repository.policy(POLICY, "2026-01")
        faulty.switch_off()
        assert await repository.policy(POLICY, "2026-01") is not None


def all_failed(results: Sequence[AWSError | None]) -> bool:
    return all(isinstance(each, AWSThrottledError | AWSUnavailableError) for each in results)


async def results_of(call: Awaitable[list[AWSError | None]]) -> Sequence[AWSError | None]:
    """Return the results of a call, or its error as the result of its only entry."""
    try:
        return await call
    except AWSUnavailableError as error:
        return [error]


@pytest.mark.parametrize("fault", UNREADABLE_RESPONSES)
async def test_batch_entries_succeed_only_by_a_readable_response(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    async with open_queues(faulty.settings(5.0, visibility_timeout_seconds=20)) as (source, _):
        faulty.switch_on({fault: 1.0})
        assert all_failed(await results_of(source.delete([MESSAGE])))
        assert all_failed(await results_of(source.send([OutgoingMessage("{}")])))
        assert all_failed(await results_of(source.change_visibility([(MESSAGE, 1.0)])))


@pytest.mark.parametrize("fault", sorted(OF_ENTRIES))
async def test_dead_letter_reported_as_failed_is_sent_again(
    faulty: FaultyEnvironment, fault: Fault
) -> None:
    settings = faulty.settings(5.0, visibility_timeout_seconds=20)
    async with open_queues(settings) as (_, dead_letters):
        faulty.switch_on({fault: 1.0}, "SendMessageBatch")
        assert all_failed(await dead_letters.send([OutgoingMessage("{}")]))
        faulty.switch_off()
        assert await dead_letters.send([OutgoingMessage("{}")]) == [None]
    bodies = [dead_letter.body for dead_letter in await faulty.environment.dead()]
    assert bodies == ["{}"] * (2 if fault is Fault.ENTRIES_DENIED else 1)


async def first_pipeline(faulty: FaultyEnvironment, stopping: asyncio.Event) -> Pipeline | None:
    clock = asyncio.get_running_loop().time
    status = PipelineStatus(faulty.settings(), stopping, EventLoopWatchdog(60), clock)
    async with service.open_pipeline(status, None) as pipeline:
        return pipeline


async def test_worker_waits_until_its_queues_can_be_looked_up(faulty: FaultyEnvironment) -> None:
    faulty.switch_on({Fault.ERROR_JSON: 1.0}, "GetQueueUrl")
    starting = asyncio.create_task(first_pipeline(faulty, asyncio.Event()))
    await until(lambda: faulty.injected(Fault.ERROR_JSON) >= 1)
    faulty.switch_off()
    assert await starting is not None


async def test_worker_waiting_for_its_queues_can_be_stopped(faulty: FaultyEnvironment) -> None:
    faulty.switch_on({Fault.HTML: 1.0}, "GetQueueUrl")
    stopping = asyncio.Event()
    starting = asyncio.create_task(first_pipeline(faulty, stopping))
    await until(lambda: faulty.injected(Fault.HTML) >= 1)
    stopping.set()
    assert await starting is None
