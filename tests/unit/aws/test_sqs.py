"""Calls to one queue, lookup of queues, and probes of permissions."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import pytest
from msgspec import structs

from tests.simulation.aws_errors import sqs_error
from tests.simulation.faults import Faults
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import START, simulated
from tests.unit.aws.one_response import OneResponse, queue_of, receive
from tests.unit.fakes import DEAD_LETTERS, SOURCE, open_world, received_message, settings
from worker.aws.fast_path.caller import Caller
from worker.aws.sqs import Queue, dead_letter_probes, open_queues, source_probes
from worker.domain.message import OutgoingMessage
from worker.errors import (
    AWSDeniedError,
    AWSNotFoundError,
    AWSRejectedError,
    AWSUnavailableError,
    LeaseLostError,
    UsageError,
)


@simulated
async def test_sent_message_is_received_unchanged() -> None:
    world = await open_world()
    attributes = {
        "kind": {"DataType": "String", "StringValue": "é"},
        "photo": {"DataType": "Binary.png", "BinaryValue": b"\x00\xff"},
        "count": {"DataType": "Number.int", "StringValue": "7"},
    }
    sent = OutgoingMessage("bödy\n", attributes, trace_header="Root=1-2-3", group_id="tenant")
    assert await world.source.send([sent]) == [None]
    (received,) = await receive(world.source)
    assert (received.body, received.attributes) == ("bödy\n", attributes)
    assert (received.trace_header, received.group_id) == ("Root=1-2-3", "tenant")
    assert received.receive_count == 1
    assert 0 <= (received.sent_at - START).total_seconds() < 1
    assert received.first_received_at >= received.sent_at


@simulated
async def test_empty_response_has_no_messages() -> None:
    world = await open_world()
    assert await receive(world.source) == []


@simulated
async def test_poll_requests_at_most_ten_messages() -> None:
    client = OneResponse({})
    await receive(queue_of(client), 500)
    assert client.requests[0]["MaxNumberOfMessages"] == 10
    await receive(queue_of(client), 3)
    assert client.requests[1]["MaxNumberOfMessages"] == 3


@simulated
async def test_polls_use_their_own_caller() -> None:
    polls, rest = OneResponse({}), OneResponse({})
    queue = Queue(cast("Any", rest), "https://sqs.test/q", poll_caller=Caller(polls))
    await receive(queue)
    assert (len(polls.requests), len(rest.requests)) == (1, 0)


@simulated
async def test_poll_times_out_after_its_wait_time_and_a_margin() -> None:
    class Hanging(OneResponse):
        async def receive_message(self, **_: Any) -> dict[str, Any]:
            await asyncio.sleep(10_000)
            return {}

    with pytest.raises(AWSUnavailableError, match="ReceiveMessage"):
        await queue_of(Hanging({})).receive(1, wait_seconds=20, visibility_timeout_seconds=30)
    assert 20 < asyncio.get_running_loop().time() < 40


@simulated
async def test_visibility_timeout_is_in_whole_seconds_up_to_twelve_hours() -> None:
    client = OneResponse({})
    changes = [(received_message(), seconds) for seconds in (0.0, 0.6, 29.6, 99_999.0)]
    await queue_of(client).change_visibility(changes)
    entries = client.requests[0]["Entries"]
    assert [entry["VisibilityTimeout"] for entry in entries] == [0, 1, 30, 43_200]


@simulated
async def test_calls_are_counted_by_operation() -> None:
    world = await open_world()
    await world.push("a")
    await world.source.delete(await receive(world.source))
    assert world.calls == {"SendMessageBatch": 1, "ReceiveMessage": 1, "DeleteMessageBatch": 1}
    assert world.bodies(SOURCE) == []


class _RejectingSQS(SimulatedSQS):
    """SQS that rejects every batch with a certain entry as a whole."""

    code = "BatchRequestTooLong"

    def __init__(self, faults: Faults) -> None:
        super().__init__(faults)
        self.sizes: list[int] = []

    async def send_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._call_unless_bad("SendMessageBatch", super().send_message_batch, request)

    async def delete_message_batch(self, **request: Any) -> dict[str, Any]:
        return await self._call_unless_bad(
            "DeleteMessageBatch", super().delete_message_batch, request
        )

    async def change_message_visibility_batch(self, **request: Any) -> dict[str, Any]:
        name = "ChangeMessageVisibilityBatch"
        return await self._call_unless_bad(name, super().change_message_visibility_batch, request)

    async def _call_unless_bad(
        self, name: str, call: Any, request: dict[str, Any]
    ) -> dict[str, Any]:
        self.sizes.append(len(request["Entries"]))
        if any("bad" in json.dumps(entry) for entry in request["Entries"]):
            raise sqs_error(name, self.code)
        response: dict[str, Any] = await call(**request)
        return response


async def _rejecting_queue(code: str) -> tuple[_RejectingSQS, Queue]:
    sqs = _RejectingSQS(Faults(0))
    sqs.code = code
    url = (await sqs.create_queue(QueueName=SOURCE))["QueueUrl"]
    return sqs, queue_of(sqs, url)


@pytest.mark.parametrize(
    "code", ["BatchRequestTooLong", "InvalidParameterValue", "InvalidMessageContents"]
)
@simulated
async def test_batch_rejected_as_a_whole_fails_only_the_entry_that_caused_it(code: str) -> None:
    sqs, queue = await _rejecting_queue(code)
    bodies = [f"good {number}" for number in range(10)]
    bodies[6] = "bad"
    results = await queue.send([OutgoingMessage(each) for each in bodies])
    assert isinstance(results[6], AWSRejectedError)
    assert results[:6] + results[7:] == [None] * 9
    sent = [each.body for each in sqs.queue(SOURCE).messages.values()]
    assert sent == bodies[:6] + bodies[7:]
    assert len(sqs.sizes) <= 9


@pytest.mark.parametrize("operation", ["delete", "change_visibility"])
@simulated
async def test_receipt_handle_rejected_with_its_whole_batch_fails_alone(operation: str) -> None:
    _, queue = await _rejecting_queue("ReceiptHandleIsInvalid")
    await queue.send([OutgoingMessage(str(number)) for number in range(10)])
    received = await receive(queue)
    received[3] = structs.replace(received[3], receipt_handle="bad")
    if operation == "delete":
        results = await queue.delete(received)
    else:
        results = await queue.change_visibility([(each, 60) for each in received])
    assert isinstance(results[3], LeaseLostError)
    assert results[:3] + results[4:] == [None] * 9


@simulated
async def test_single_rejected_entry_is_not_split() -> None:
    sqs, queue = await _rejecting_queue("InvalidParameterValue")
    with pytest.raises(AWSRejectedError):
        await queue.send([OutgoingMessage("bad")])
    assert sqs.sizes == [1]


@pytest.mark.parametrize("url", ["https://sqs.test/q.fifo", "https://sqs.test/q"])
@simulated
async def test_fifo_queue_is_rejected_as_a_destination(url: str) -> None:
    queue = queue_of(OneResponse({"Attributes": {"FifoQueue": "true"}}), url)
    with pytest.raises(UsageError, match=r"is a FIFO queue; name a standard queue"):
        await queue.check_destination()


@simulated
async def test_destination_whose_attributes_are_denied_keeps_the_limit_of_sqs() -> None:
    class Denied(OneResponse):
        async def get_queue_attributes(self, **_: Any) -> dict[str, Any]:
            raise sqs_error("GetQueueAttributes", "AccessDenied")

    queue = queue_of(Denied({}))
    assert "AccessDenied" in await queue.check_destination()
    assert queue.message_max_bytes == 1_048_576


@simulated
async def test_queues_are_opened_by_name_with_separate_pools() -> None:
    world = await open_world()
    configured = settings(poll_concurrency=13, settle_concurrency=5, wait_seconds=20)
    session = cast("Any", world.session)
    async with open_queues(configured, session=session) as (source, dead_letters):
        assert source.url == world.sqs.queue(SOURCE).url
        assert dead_letters.url == world.sqs.queue(DEAD_LETTERS).url
        await world.push("a")
        assert len(await receive(source)) == 1
    assert world.session.open_count == 0
    polls, rest = (options["config"] for _, _, options in world.session.openings)
    assert polls.max_pool_connections >= 13
    assert polls.read_timeout > 20
    assert polls.retries["total_max_attempts"] == 1
    # Deletes, returns, dead letters and extensions, each of that concurrency.
    assert rest.max_pool_connections >= 4 * 5


@simulated
async def test_error_for_a_missing_queue_says_what_to_do() -> None:
    world = await open_world()
    configured = settings(queue="missing")
    with pytest.raises(AWSNotFoundError, match=r"'missing' does not exist.*AUP_QUEUE"):
        async with open_queues(configured, session=cast("Any", world.session)):
            pass
    assert world.session.open_count == 0


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("ReceiptHandleIsInvalid", type(None)),
        ("InvalidParameterValue", type(None)),
        ("AccessDenied", AWSDeniedError),
    ],
)
@simulated
async def test_source_probes_fail_only_if_their_entry_is_denied(
    code: str, error: type[object]
) -> None:
    client = OneResponse({"Failed": [{"Id": "0", "Code": code, "SenderFault": True}]})
    errors = [await probe.error() for probe in source_probes(queue_of(client))]
    assert [type(each) for each in errors] == [error, error]
    assert len(client.requests) == 2


@simulated
async def test_dead_letter_probe_sends_no_entries() -> None:
    client = OneResponse({})
    (probe,) = dead_letter_probes(queue_of(client))
    assert await probe.error() is None
    assert (probe.action, probe.target) == ("sqs:SendMessage", "queue q")
    assert [request["Entries"] for request in client.requests] == [[]]
