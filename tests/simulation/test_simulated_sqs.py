"""Tests of the simulated SQS."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.simulation.faults import Durations, FaultRates, Faults
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import simulated


async def _opened(**attributes: str) -> tuple[SimulatedSQS, str]:
    sqs = SimulatedSQS(Faults(0))
    return sqs, (await sqs.create_queue(QueueName="source", Attributes=attributes))["QueueUrl"]


async def _sent(sqs: SimulatedSQS, url: str, *bodies: str) -> None:
    for body in bodies:
        await sqs.send_message(QueueUrl=url, MessageBody=body)


async def _received(sqs: SimulatedSQS, url: str, **options: Any) -> list[dict[str, Any]]:
    response = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **options)
    messages: list[dict[str, Any]] = response.get("Messages", [])
    return messages


async def _depths(sqs: SimulatedSQS, url: str) -> tuple[int, int, int]:
    names = ["", "NotVisible", "Delayed"]
    response = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    visible, in_flight, delayed = (
        int(response["Attributes"][f"ApproximateNumberOfMessages{name}"]) for name in names
    )
    return visible, in_flight, delayed


def _codes(error: pytest.ExceptionInfo[ClientError]) -> tuple[str, str]:
    details: Any = error.value.response["Error"]
    return details["Code"], details["QueryErrorCode"]


def _now() -> float:
    return asyncio.get_running_loop().time()


@simulated
async def test_a_received_message_is_hidden_until_its_visibility_ends() -> None:
    sqs, url = await _opened(VisibilityTimeout="30")
    await _sent(sqs, url, "a")
    first = await _received(sqs, url)
    assert await _received(sqs, url) == []
    await asyncio.sleep(31)
    second = await _received(sqs, url)
    assert second[0]["MessageId"] == first[0]["MessageId"]
    assert second[0]["ReceiptHandle"] != first[0]["ReceiptHandle"]


@simulated
async def test_empty_receive_response_has_no_messages_key() -> None:
    sqs, url = await _opened()
    assert "Messages" not in await sqs.receive_message(QueueUrl=url)


@simulated
async def test_a_long_poll_wakes_when_a_message_arrives() -> None:
    sqs, url = await _opened()
    poll = asyncio.create_task(_received(sqs, url, WaitTimeSeconds=20))
    await asyncio.sleep(5)
    await _sent(sqs, url, "a")
    assert len(await poll) == 1
    assert _now() == pytest.approx(5, abs=0.2)


@simulated
async def test_a_long_poll_wakes_when_a_hidden_message_comes_back() -> None:
    sqs, url = await _opened(VisibilityTimeout="10")
    await _sent(sqs, url, "a")
    await _received(sqs, url)
    assert len(await _received(sqs, url, WaitTimeSeconds=20)) == 1
    assert _now() == pytest.approx(10, abs=0.2)


@simulated
async def test_a_long_poll_ends_empty_when_its_wait_is_over() -> None:
    sqs, url = await _opened()
    assert await _received(sqs, url, WaitTimeSeconds=20) == []
    assert _now() == pytest.approx(20, abs=0.2)


@simulated
async def test_poll_cancelled_late_leaves_its_messages_in_flight() -> None:
    a_second = Durations(min_latency_seconds=1, max_latency_seconds=1)
    sqs = SimulatedSQS(Faults(0, durations=a_second))
    url = (await sqs.create_queue(QueueName="source"))["QueueUrl"]
    await _sent(sqs, url, "a")
    poll = asyncio.create_task(_received(sqs, url))
    await asyncio.sleep(1.5)  # the request has arrived, the response has not
    poll.cancel()
    await asyncio.wait([poll])
    assert poll.cancelled()
    assert await _depths(sqs, url) == (0, 1, 0)


@simulated
async def test_poll_cancelled_while_waiting_receives_nothing() -> None:
    sqs, url = await _opened()
    poll = asyncio.create_task(_received(sqs, url, WaitTimeSeconds=20))
    await asyncio.sleep(5)
    poll.cancel()
    await _sent(sqs, url, "a")
    assert await _depths(sqs, url) == (1, 0, 0)


@simulated
async def test_deleting_with_the_newest_handle_removes_the_message() -> None:
    sqs, url = await _opened()
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url)
    for _ in range(2):  # deleting twice succeeds
        await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert await _depths(sqs, url) == (0, 0, 0)


@simulated
async def test_deleting_with_an_old_handle_succeeds_and_the_message_stays() -> None:
    sqs, url = await _opened()
    await _sent(sqs, url, "a")
    [old] = await _received(sqs, url, VisibilityTimeout=1)
    await asyncio.sleep(2)
    await _received(sqs, url)
    response = await sqs.delete_message_batch(
        QueueUrl=url, Entries=[{"Id": "0", "ReceiptHandle": old["ReceiptHandle"]}]
    )
    assert response["Successful"] == [{"Id": "0"}]
    assert "Failed" not in response
    assert await _depths(sqs, url) == (0, 1, 0)


@simulated
async def test_unknown_receipt_handle_fails_only_its_entry() -> None:
    sqs, url = await _opened()
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url)
    response = await sqs.delete_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "good", "ReceiptHandle": message["ReceiptHandle"]},
            {"Id": "bad", "ReceiptHandle": "nonsense"},
        ],
    )
    assert [entry["Id"] for entry in response["Successful"]] == ["good"]
    [failed] = response["Failed"]
    assert (failed["Id"], failed["Code"], failed["SenderFault"]) == (
        "bad",
        "ReceiptHandleIsInvalid",
        True,
    )


@simulated
async def test_visibility_can_be_extended_and_ended() -> None:
    sqs, url = await _opened(VisibilityTimeout="10")
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url)
    handle = message["ReceiptHandle"]
    await sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=60)
    await asyncio.sleep(30)
    assert await _depths(sqs, url) == (0, 1, 0)
    await sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=0)
    assert await _depths(sqs, url) == (1, 0, 0)


@simulated
async def test_visibility_of_stale_returned_and_deleted_messages_cannot_be_changed() -> None:
    sqs, url = await _opened()
    await _sent(sqs, url, "stale", "returned", "deleted")
    old = await _received(sqs, url, VisibilityTimeout=5)
    await asyncio.sleep(6)
    [again] = (await sqs.receive_message(QueueUrl=url))["Messages"]
    assert again["MessageId"] == old[0]["MessageId"]
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=old[2]["ReceiptHandle"])
    response = await sqs.change_message_visibility_batch(
        QueueUrl=url,
        Entries=[
            {"Id": m["Body"], "ReceiptHandle": m["ReceiptHandle"], "VisibilityTimeout": 9}
            for m in old
        ],
    )
    assert {entry["Id"]: entry["Code"] for entry in response["Failed"]} == {
        "stale": "ReceiptHandleIsInvalid",
        "returned": "MessageNotInflight",
        "deleted": "InvalidParameterValue",
    }


@simulated
async def test_visibility_ends_twelve_hours_after_the_receive_at_the_latest() -> None:
    sqs, url = await _opened(VisibilityTimeout="43200")
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url)
    await asyncio.sleep(3600)
    with pytest.raises(ClientError, match="beyond the limit"):
        await sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=11 * 3600 + 60
        )


@simulated
async def test_a_delayed_message_appears_after_its_delay() -> None:
    sqs, url = await _opened()
    await sqs.send_message(QueueUrl=url, MessageBody="a", DelaySeconds=15)
    assert await _depths(sqs, url) == (0, 0, 1)
    assert len(await _received(sqs, url, WaitTimeSeconds=20)) == 1
    assert _now() == pytest.approx(15, abs=0.2)


@simulated
async def test_a_message_past_its_receive_count_goes_to_the_dead_letters() -> None:
    sqs, url = await _opened()
    dead_url = (await sqs.create_queue(QueueName="dead"))["QueueUrl"]
    policy = {"deadLetterTargetArn": sqs.queue("dead").arn, "maxReceiveCount": "2"}
    await sqs.set_queue_attributes(
        QueueUrl=url, Attributes={"RedrivePolicy": json.dumps(policy), "VisibilityTimeout": "1"}
    )
    await _sent(sqs, url, "a")
    for _ in range(2):
        [received] = await _received(sqs, url, AttributeNames=["All"])
        await asyncio.sleep(2)
    assert await _received(sqs, url) == []
    assert await _depths(sqs, url) == (0, 0, 0)
    [dead_letter] = await _received(sqs, dead_url, AttributeNames=["All"])
    assert dead_letter["MessageId"] == received["MessageId"]
    assert dead_letter["Attributes"]["SentTimestamp"] == received["Attributes"]["SentTimestamp"]
    assert dead_letter["Attributes"]["DeadLetterQueueSourceArn"] == sqs.queue("source").arn


@simulated
async def test_a_message_expires_with_the_retention_period() -> None:
    sqs, url = await _opened(MessageRetentionPeriod="60")
    await _sent(sqs, url, "a")
    await asyncio.sleep(61)
    assert await _received(sqs, url) == []
    assert await _depths(sqs, url) == (0, 0, 0)
    assert [message.body for message in sqs.queue("source").expired] == ["a"]


@simulated
async def test_a_message_in_flight_expires_too() -> None:
    sqs, url = await _opened(MessageRetentionPeriod="60")
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url, VisibilityTimeout=3600)
    await asyncio.sleep(61)
    handle = message["ReceiptHandle"]
    with pytest.raises(ClientError) as error:
        await sqs.change_message_visibility(
            QueueUrl=url, ReceiptHandle=handle, VisibilityTimeout=30
        )
    assert _codes(error)[1] == "InvalidParameterValueException"
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert len(sqs.queue("source").expired) == 1


@simulated
async def test_deleted_message_does_not_count_as_expired() -> None:
    sqs, url = await _opened(MessageRetentionPeriod="60")
    sqs.faults.rates = FaultRates(reappearance=1.0)
    await _sent(sqs, url, "a")
    [message] = await _received(sqs, url)
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.queue("source").messages[1].sent_at -= 60
    sqs.queue("source").expire()
    assert not sqs.queue("source").messages
    assert not sqs.queue("source").expired


@simulated
async def test_requested_attributes_are_returned_as_sent() -> None:
    sqs, url = await _opened()
    colour = {"colour": {"DataType": "String", "StringValue": "red"}}
    trace = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-2"}}
    await sqs.send_message(
        QueueUrl=url,
        MessageBody="a",
        MessageAttributes=colour,
        MessageSystemAttributes=trace,
        MessageGroupId="tenant",
    )
    [plain] = await _received(sqs, url, VisibilityTimeout=0)
    assert plain.keys() == {"MessageId", "ReceiptHandle", "Body", "MD5OfBody"}
    [full] = await _received(
        sqs, url, MessageAttributeNames=["All"], MessageSystemAttributeNames=["All"]
    )
    assert full["MessageAttributes"] == colour
    known = full["Attributes"]
    assert (known["AWSTraceHeader"], known["MessageGroupId"]) == ("Root=1-2", "tenant")
    assert known["ApproximateReceiveCount"] == "2"
    assert 0 < int(known["SentTimestamp"]) <= int(known["ApproximateFirstReceiveTimestamp"])


@simulated
async def test_digests_are_those_of_aws() -> None:
    sqs, url = await _opened()
    response = await sqs.send_message(
        QueueUrl=url,
        MessageBody="This is a test message",
        MessageAttributes={"timestamp": {"DataType": "Number", "StringValue": "1493147359900"}},
    )
    assert response["MD5OfMessageBody"] == "fafb00f5732ab283681e124bf8747ed1"
    # Published digest of this attribute, also used in tests of other implementations.
    assert response["MD5OfMessageAttributes"] == "235c5c510d26fb653d073faed50ae77c"


@simulated
async def test_batch_response_has_a_result_for_each_entry() -> None:
    sqs, url = await _opened(MaximumMessageSize="1024")
    response = await sqs.send_message_batch(
        QueueUrl=url,
        Entries=[
            {"Id": "0", "MessageBody": "a"},
            {"Id": "1", "MessageBody": "b" * 2000},
            {"Id": "2", "MessageBody": "\x00"},
        ],
    )
    assert [entry["Id"] for entry in response["Successful"]] == ["0"]
    assert {entry["Id"]: entry["Code"] for entry in response["Failed"]} == {
        "1": "InvalidParameterValue",
        "2": "InvalidMessageContents",
    }


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ([], "EmptyBatchRequest"),
        ([{"Id": str(n), "MessageBody": "a"} for n in range(11)], "TooManyEntriesInBatchRequest"),
        ([{"Id": "0", "MessageBody": "a"}] * 2, "BatchEntryIdsNotDistinct"),
        ([{"Id": "no id", "MessageBody": "a"}], "InvalidBatchEntryId"),
        (
            [{"Id": str(n), "MessageBody": "a" * 600_000} for n in range(2)],
            "BatchRequestTooLong",
        ),
    ],
)
@simulated
async def test_batch_outside_the_limits_fails_as_a_whole(
    entries: list[dict[str, Any]], code: str
) -> None:
    sqs, url = await _opened()
    with pytest.raises(ClientError) as error:
        await sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert _codes(error) == (f"AWS.SimpleQueueService.{code}", code)
    assert await _depths(sqs, url) == (0, 0, 0)


@simulated
async def test_error_for_an_unknown_queue_has_both_codes() -> None:
    sqs, _ = await _opened()
    with pytest.raises(ClientError) as error:
        await sqs.get_queue_url(QueueName="unknown")
    assert _codes(error) == (
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
    )


@simulated
async def test_receive_of_more_than_ten_messages_is_rejected() -> None:
    sqs, url = await _opened()
    with pytest.raises(ClientError) as error:
        await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=11)
    assert _codes(error)[0] == "InvalidParameterValue"


@simulated
async def test_creating_a_queue_again_needs_the_same_attributes() -> None:
    sqs, url = await _opened(VisibilityTimeout="60")
    again = await sqs.create_queue(QueueName="source", Attributes={"VisibilityTimeout": "60"})
    assert again["QueueUrl"] == url
    with pytest.raises(ClientError) as error:
        await sqs.create_queue(QueueName="source", Attributes={"VisibilityTimeout": "61"})
    assert _codes(error) == ("QueueAlreadyExists", "QueueNameExists")
