"""Whatever fails, nothing is lost, nothing is recorded twice, and the worker recovers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from datetime import UTC, datetime

import pytest

from tests.faults.kinds import OF_ENTRIES, OF_STATEMENTS, Fault
from tests.faults.place import FaultyPlace
from tests.integration.place import POLICY, stated
from tests.integration.running import until, working
from worker import service
from worker.aws.queue_lookup import open_queues
from worker.domain.acceptance import Acceptance
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.errors import AWSError, AWSThrottledError, AWSUnavailableError
from worker.pipeline.assembly import Pipeline
from worker.repository import AUPRepository, RecordResult

OF_CALLS = [fault for fault in Fault if fault not in OF_ENTRIES | OF_STATEMENTS]
STALLS = {Fault.STALLED_BEFORE, Fault.STALLED_AFTER}
# Answers with 200 that are not AWS's.
NO_ANSWERS = [Fault.HTML, Fault.GARBAGE, Fault.LIST, Fault.EMPTY, Fault.CUT]
DELIVERY = ReceivedMessage("id", "handle", "{}", datetime.now(UTC), datetime.now(UTC))
ACCEPTANCE = Acceptance.model_validate(stated(1))


def chance_of(fault: Fault) -> float:
    """Of a batch only a part fails, so every one may; a stall takes its time."""
    if fault in OF_ENTRIES | OF_STATEMENTS:
        return 1.0
    return 0.15 if fault in STALLS else 0.35


async def carry_through(faulty: FaultyPlace, fault: Fault) -> None:
    """Let calls fail for a while, and check that all ends well when they work again."""
    async with working(faulty.settings()) as pipeline:
        faulty.switch_on({fault: chance_of(fault)})
        await faulty.send_some_of_every_kind()
        await faulty.until_injected(fault, 3 if fault in STALLS else 8)
        faulty.switch_off()
        await faulty.drained(pipeline)
    await faulty.assert_kept_once(pipeline)


@pytest.mark.parametrize("fault", OF_CALLS)
async def test_nothing_is_lost_or_doubled_when_calls_fail(
    faulty: FaultyPlace, fault: Fault
) -> None:
    await carry_through(faulty, fault)


@pytest.mark.parametrize("fault", sorted(OF_ENTRIES))
async def test_nothing_is_lost_or_doubled_when_entries_of_a_batch_fail(
    faulty: FaultyPlace, fault: Fault
) -> None:
    await carry_through(faulty, fault)


@pytest.mark.servers
@pytest.mark.parametrize("fault", [*OF_CALLS, *sorted(OF_ENTRIES | OF_STATEMENTS)])
async def test_nothing_is_lost_or_doubled_when_writes_share_a_call(
    faulty_batches: FaultyPlace, fault: Fault
) -> None:
    await carry_through(faulty_batches, fault)


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.ERROR_HTML, Fault.RESET_BEFORE, Fault.HTML, Fault.GARBAGE]
)
async def test_the_worker_recovers_from_a_complete_outage(
    faulty: FaultyPlace, fault: Fault
) -> None:
    async with working(faulty.settings()) as pipeline:
        faulty.switch_on({fault: 1.0})
        await faulty.send_some_of_every_kind()
        await until(lambda: pipeline.metrics.events["poll_failures"] >= 3)
        faulty.switch_off()
        await faulty.drained(pipeline)
    await faulty.assert_kept_once(pipeline)


@pytest.mark.parametrize(
    "fault", [Fault.THROTTLED, Fault.ERROR_JSON, Fault.RESET_AFTER, Fault.HTML, Fault.LIST]
)
async def test_a_table_that_is_down_stops_the_polls_until_it_works(
    faulty: FaultyPlace, fault: Fault
) -> None:
    async with working(faulty.settings()) as pipeline:
        faulty.tables.faults.switch_on({fault: 1.0})
        await faulty.send_some_of_every_kind()
        await until(lambda: pipeline.metrics.events["table_failures"] >= 10)
        faulty.switch_off()
        await faulty.drained(pipeline)
    await faulty.assert_kept_once(pipeline)


# Not an empty 200: that is an empty queue for every SDK.
@pytest.mark.parametrize("fault", [each for each in NO_ANSWERS if each is not Fault.EMPTY])
async def test_a_poll_that_got_no_answer_is_a_failure_and_no_empty_queue(
    faulty: FaultyPlace, fault: Fault
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


@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_what_was_put_counts_only_with_an_answer(faulty: FaultyPlace, fault: Fault) -> None:
    async with AUPRepository(faulty.settings().aws) as repository:
        faulty.switch_on({fault: 1.0}, "PutItem")
        with pytest.raises(AWSUnavailableError, match="PutItem"):
            await repository.record(ACCEPTANCE)
        faulty.switch_off()
        landed = len(await faulty.place.recorded())
        assert landed == (1 if fault is Fault.CUT else 0)
        again = await repository.record(ACCEPTANCE)
        assert again is (RecordResult.DUPLICATE if landed else RecordResult.RECORDED)
    assert len(await faulty.place.recorded()) == 1


@pytest.mark.servers
@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_statements_count_only_with_an_answer(
    faulty_batches: FaultyPlace, fault: Fault
) -> None:
    async with AUPRepository(faulty_batches.settings().aws) as repository:
        faulty_batches.switch_on({fault: 1.0}, "BatchExecuteStatement")
        with pytest.raises(AWSUnavailableError, match="BatchExecuteStatement"):
            await repository.record(ACCEPTANCE)


@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_a_policy_is_absent_only_by_an_answer(faulty: FaultyPlace, fault: Fault) -> None:
    async with AUPRepository(faulty.settings().aws) as repository:
        faulty.switch_on({fault: 1.0}, "GetItem")
        with pytest.raises(AWSUnavailableError, match="GetItem"):
            await repository.policy(POLICY, "2026-01")
        faulty.switch_off()
        assert await repository.policy(POLICY, "2026-01") is not None


def all_failed(results: Sequence[AWSError | None]) -> bool:
    return all(isinstance(each, AWSThrottledError | AWSUnavailableError) for each in results)


async def told(call: Awaitable[list[AWSError | None]]) -> Sequence[AWSError | None]:
    """Give what a call says of its one entry, be it by an error of the whole call."""
    try:
        return await call
    except AWSUnavailableError as error:
        return [error]


@pytest.mark.parametrize("fault", NO_ANSWERS)
async def test_entries_of_a_batch_succeed_only_by_an_answer(
    faulty: FaultyPlace, fault: Fault
) -> None:
    async with open_queues(faulty.settings(5.0, visibility_timeout_seconds=20)) as (source, _):
        faulty.switch_on({fault: 1.0})
        assert all_failed(await told(source.delete([DELIVERY])))
        assert all_failed(await told(source.send([OutgoingMessage("{}")])))
        assert all_failed(await told(source.change_visibility([(DELIVERY, 1.0)])))


@pytest.mark.parametrize("fault", sorted(OF_ENTRIES))
async def test_a_letter_that_was_said_to_fail_is_sent_again(
    faulty: FaultyPlace, fault: Fault
) -> None:
    settings = faulty.settings(5.0, visibility_timeout_seconds=20)
    async with open_queues(settings) as (_, dead_letters):
        faulty.switch_on({fault: 1.0}, "SendMessageBatch")
        assert all_failed(await dead_letters.send([OutgoingMessage("{}")]))
        faulty.switch_off()
        assert await dead_letters.send([OutgoingMessage("{}")]) == [None]
    letters = [letter.body for letter in await faulty.place.dead()]
    assert letters == ["{}"] * (2 if fault is Fault.ENTRIES_DENIED else 1)


async def first_pipeline(faulty: FaultyPlace, stopping: asyncio.Event) -> Pipeline | None:
    async with service._open_pipeline(faulty.settings(), stopping, None) as pipeline:
        return pipeline


async def test_a_worker_waits_until_its_queues_can_be_looked_up(faulty: FaultyPlace) -> None:
    faulty.switch_on({Fault.ERROR_JSON: 1.0}, "GetQueueUrl")
    starting = asyncio.create_task(first_pipeline(faulty, asyncio.Event()))
    await until(lambda: faulty.injected(Fault.ERROR_JSON) >= 1)
    faulty.switch_off()
    assert await starting is not None


async def test_a_worker_that_waits_for_its_queues_can_be_stopped(faulty: FaultyPlace) -> None:
    faulty.switch_on({Fault.HTML: 1.0}, "GetQueueUrl")
    stopping = asyncio.Event()
    starting = asyncio.create_task(first_pipeline(faulty, stopping))
    await until(lambda: faulty.injected(Fault.HTML) >= 1)
    stopping.set()
    assert await starting is None
