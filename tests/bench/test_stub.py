"""The stub responds like AWS, and counts requests."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aioboto3
import pytest
from moto.sqs.models import Message

from tests.bench.fleet import RunError
from tests.bench.runs import measure_idle, measure_single_messages, run_scenario
from tests.bench.scenarios import SCENARIOS, Scenario, Work, message_bytes
from tests.bench.stub.checksums import md5_of_attributes
from tests.bench.stub.dynamodb import item_bytes
from tests.bench.stub.launch import Figures, Stub, StubError, running_stub
from tests.bench.stub.load import measure
from tests.bench.stub.messages import CONTENT_SHA256, POLICY_ID, VERSION, body
from tests.bench.stub.processes import with_children
from tests.bench.stub.tally import Conditions, Tally, nearest_rank
from worker.domain.envelope import decode
from worker.domain.policy import Policy

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_sqs import SQSClient

TABLE = "aup-acceptances"
UNKNOWN_HANDLE = "AQEB" + 12 * "9"


@pytest.fixture(scope="module")
def stub() -> Iterator[Stub]:
    with running_stub() as running:
        yield running


@asynccontextmanager
async def clients(
    stub: Stub, *, tls: bool = False
) -> AsyncIterator[tuple[SQSClient, DynamoDBClient]]:
    """Open SDK clients that verify the checksum of every DynamoDB response."""
    session = aioboto3.Session()
    address = stub.address
    options: dict[str, Any] = {"region_name": "us-east-1", "endpoint_url": address.plain_url}
    if tls:
        options |= {"endpoint_url": address.tls_url, "verify": address.ca_file}
    async with AsyncExitStack() as stack:
        sqs = await stack.enter_async_context(session.client("sqs", **options))
        dynamodb = await stack.enter_async_context(session.client("dynamodb", **options))
        dynamodb.meta.events.register("before-parse.dynamodb", _verify_checksum)
        yield sqs, dynamodb


def _verify_checksum(response_dict: dict[str, Any], **_: Any) -> None:
    stated = int(response_dict["headers"]["x-amz-crc32"])
    assert stated == zlib.crc32(response_dict["body"])


async def queue_url(sqs: SQSClient, name: str = "aup-acceptances") -> str:
    return (await sqs.get_queue_url(QueueName=name))["QueueUrl"]


async def receive(sqs: SQSClient, url: str, most: int = 10) -> list[Any]:
    response = await sqs.receive_message(
        QueueUrl=url, MaxNumberOfMessages=most, MessageSystemAttributeNames=["All"]
    )
    return list(response.get("Messages", []))


async def read(stub: Stub) -> Figures:
    return await asyncio.to_thread(stub.figures)


class TestReceive:
    async def test_receive_returns_ten_distinct_valid_acceptances(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=25))
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            responses = [await receive(sqs, url) for _ in range(4)]
        assert [len(response) for response in responses] == [10, 10, 5, 0]
        found = [message for response in responses for message in response]
        now = datetime.now(UTC)
        bodies = [decode(each["Body"], now=now, clock_skew_seconds=0) for each in found]
        for different in (
            {acceptance.event_id for acceptance in bodies},
            {acceptance.user_id for acceptance in bodies},
            {message["MessageId"] for message in found},
            {message["ReceiptHandle"] for message in found},
        ):
            assert len(different) == 25
        assert {(each.policy_id, each.version, each.content_sha256) for each in bodies} == {
            (POLICY_ID, VERSION, CONTENT_SHA256)
        }

    @pytest.mark.parametrize("kib", [0.4, 4.0, 64.0])
    async def test_every_body_has_the_configured_size_and_its_md5(
        self, stub: Stub, kib: float
    ) -> None:
        stub.reset(Conditions(messages=3, message_bytes=message_bytes(kib)))
        async with clients(stub) as (sqs, _):
            messages = await receive(sqs, await queue_url(sqs))
        assert [len(message["Body"]) for message in messages] == [round(kib * 1024)] * 3
        for message in messages:
            assert message["MD5OfBody"] == Message("", message["Body"]).body_md5
            decode(message["Body"], now=datetime.now(UTC), clock_skew_seconds=0)

    async def test_unknown_fields_of_many_types_fill_a_body(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=2, message_bytes=4096, unknown_fields=True))
        async with clients(stub) as (sqs, _):
            messages = await receive(sqs, await queue_url(sqs))
        for message in messages:
            assert len(message["Body"]) == 4096
            assert message["MD5OfBody"] == Message("", message["Body"]).body_md5
            acceptance = decode(message["Body"], now=datetime.now(UTC), clock_skew_seconds=0)
            kinds = {type(value) for value in json.loads(message["Body"]).values()}
            assert kinds >= {str, int, float, bool, list, dict, type(None)}
            assert len(acceptance.extra or "") > 3000

    async def test_message_has_timestamps_of_send_and_first_receive(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=1))
        async with clients(stub) as (sqs, _):
            (message,) = await receive(sqs, await queue_url(sqs))
        attributes = message["Attributes"]
        sent, received = (
            int(attributes[name]) / 1000
            for name in ("SentTimestamp", "ApproximateFirstReceiveTimestamp")
        )
        assert 0 < received - sent < 1
        assert abs(datetime.now(UTC).timestamp() - received) < 60
        assert attributes["ApproximateReceiveCount"] == "1"

    async def test_empty_poll_waits_for_its_wait_time(self, stub: Stub) -> None:
        before = stub.reset(Conditions()).at
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            response = await sqs.receive_message(QueueUrl=url, WaitTimeSeconds=1)
        assert not response.get("Messages")
        assert 1 <= (await read(stub)).at - before < 10

    async def test_waiting_poll_returns_a_new_message(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            poll = asyncio.create_task(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
            waiting = await asyncio.to_thread(stub.wait, polls=1, seconds=10)
            await asyncio.to_thread(stub.offer, 1)
            response = await poll
        assert waiting.reached
        assert len(response["Messages"]) == 1
        assert (await read(stub)).waiting_polls == 0

    async def test_released_poll_returns_no_messages(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            poll = asyncio.create_task(sqs.receive_message(QueueUrl=url, WaitTimeSeconds=20))
            await asyncio.to_thread(stub.wait, polls=1, seconds=10)
            await asyncio.to_thread(stub.release)
            async with asyncio.timeout(10):
                response = await poll
        assert not response.get("Messages")

    async def test_billed_requests_grow_with_the_payload(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=10, message_bytes=65_536))
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            await receive(sqs, url)
            await receive(sqs, url)
        # The lookup of the queue, ten chunks of 64 KiB, and an empty response.
        assert (await read(stub)).sqs_request_units == 1 + 10 + 1


class TestSettle:
    async def test_deletes_are_confirmed_and_counted_once(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=10))
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            messages = await receive(sqs, url)
            entries: Any = [
                {"Id": f"entry-{index}", "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages[:9])
            ]
            response = await sqs.delete_message_batch(QueueUrl=url, Entries=entries)
            handle = messages[9]["ReceiptHandle"]
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
            once = await read(stub)
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
        assert [each["Id"] for each in response["Successful"]] == [f"entry-{n}" for n in range(9)]
        assert (once.settled, once.settled_twice) == (10, 0)
        assert once.last_settled_at is not None
        assert 0 <= once.at - once.last_settled_at < 10
        repeated = await read(stub)
        assert (repeated.settled, repeated.settled_twice) == (10, 1)
        assert repeated.calls == {
            "GetQueueUrl": 1,
            "ReceiveMessage": 1,
            "DeleteMessageBatch": 1,
            "DeleteMessage": 2,
        }

    async def test_waiting_client_gets_the_figures_of_the_last_delete(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=1))
        async with clients(stub) as (sqs, _):
            url = await queue_url(sqs)
            (message,) = await receive(sqs, url)
            early = await asyncio.to_thread(stub.wait, settled=1, seconds=0.01)
            wait = asyncio.create_task(asyncio.to_thread(stub.wait, settled=1, seconds=10))
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            figures = await wait
        assert not early.reached
        assert figures.reached
        assert figures.settled == 1

    async def test_visibility_changes_are_confirmed(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (sqs, _):
            entries: Any = [
                {"Id": name, "ReceiptHandle": UNKNOWN_HANDLE, "VisibilityTimeout": 30}
                for name in ("first", "second")
            ]
            response = await sqs.change_message_visibility_batch(
                QueueUrl=await queue_url(sqs), Entries=entries
            )
        assert [each["Id"] for each in response["Successful"]] == ["first", "second"]
        assert not response["Failed"]


class TestSend:
    async def test_sent_messages_are_confirmed_with_md5_of_body_and_attributes(
        self, stub: Stub
    ) -> None:
        attributes: Any = {
            "text": {"DataType": "String", "StringValue": "wörds"},
            "count": {"DataType": "Number", "StringValue": "7"},
            "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff"},
        }
        trace: Any = {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}}
        stub.reset(Conditions())
        async with clients(stub) as (sqs, _):
            response = await sqs.send_message_batch(
                QueueUrl=await queue_url(sqs),
                Entries=[
                    {
                        "Id": "0",
                        "MessageBody": "grüße",
                        "MessageAttributes": attributes,
                        "MessageSystemAttributes": trace,
                    },
                    {"Id": "1", "MessageBody": "plain"},
                ],
            )
        first, second = response["Successful"]
        # Reckoned by another implementation.
        message = Message("0", "grüße")
        message.message_attributes = attributes
        assert first["MD5OfMessageBody"] == message.body_md5
        assert first["MD5OfMessageAttributes"] == message.attribute_md5
        message.message_attributes = trace
        assert first["MD5OfMessageSystemAttributes"] == message.attribute_md5
        assert second["MD5OfMessageBody"] == Message("1", "plain").body_md5
        assert "MD5OfMessageAttributes" not in second
        assert first["MessageId"] != second["MessageId"]

    def test_md5_of_attributes_ignores_their_order(self) -> None:
        one, other = (
            {"DataType": "String", "StringValue": "1"},
            {"DataType": "Binary", "BinaryValue": base64.b64encode(b"1").decode()},
        )
        assert md5_of_attributes({"a": one, "b": other}) == md5_of_attributes(
            {"b": other, "a": one}
        )
        assert md5_of_attributes({"a": one}) != md5_of_attributes({"a": other})


class TestQueues:
    async def test_redrive_policy_and_retention_of_both_queues_match(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=3))
        async with clients(stub) as (sqs, _):
            source, dead = [
                (await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"]))["Attributes"]
                for url in (
                    await queue_url(sqs, "aup-acceptances"),
                    await queue_url(sqs, "aup-acceptances-dead"),
                )
            ]
        redrive = json.loads(source["RedrivePolicy"])
        assert redrive["deadLetterTargetArn"] == dead["QueueArn"]
        assert source["ApproximateNumberOfMessages"] == "3"
        assert int(dead["MessageRetentionPeriod"]) > int(source["MessageRetentionPeriod"])


class TestDynamoDB:
    async def test_every_statement_gets_a_response_and_is_counted(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (_, dynamodb):
            response = await dynamodb.batch_execute_statement(
                Statements=[
                    {
                        "Statement": f"INSERT INTO \"{TABLE}\" VALUE {{'user_id': ?}}",
                        # The text of a value must not be counted.
                        "Parameters": [{"S": '"Statement": "Statement"'}],
                    }
                ]
                * 25
            )
        assert response["Responses"] == [{"TableName": TABLE}] * 25
        figures = await read(stub)
        assert figures.items_written == 25
        assert figures.calls == {"BatchExecuteStatement": 1}

    async def test_size_of_a_put_item_is_measured(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (_, dynamodb):
            await dynamodb.put_item(TableName=TABLE, Item={"k": {"S": "x" * 1024}})
        figures = await read(stub)
        assert (figures.items_written, figures.items_weighed, figures.units_weighed) == (1, 1, 2)

    def test_item_size_includes_names_and_values(self) -> None:
        assert item_bytes({"né": {"S": "é"}, "b": {"B": base64.b64encode(b"123").decode()}}) == 9

    async def test_only_the_published_policy_is_found(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (_, dynamodb):
            key = {"policy_id": {"S": POLICY_ID}, "version": {"S": VERSION}}
            found = await dynamodb.get_item(TableName="aup-policies", Key=key)
            other = {**key, "version": {"S": "1999-01"}}
            absent = await dynamodb.get_item(TableName="aup-policies", Key=other)
            user = {"user_id": {"S": "u"}, "policy_version": {"S": f"{POLICY_ID}#{VERSION}"}}
            no_record = await dynamodb.get_item(TableName=TABLE, Key=user)
        item = {name: value["S"] for name, value in found["Item"].items()}
        policy = Policy.model_validate(item)
        assert policy.content_sha256 == CONTENT_SHA256
        assert policy.in_force_at(datetime.now(UTC))
        assert "Item" not in absent
        assert "Item" not in no_record

    async def test_unknown_operation_is_rejected_and_counted(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (_, dynamodb):
            dynamodb.meta.events.unregister("before-parse.dynamodb", _verify_checksum)
            with pytest.raises(dynamodb.exceptions.ClientError, match="UnknownOperation"):
                await dynamodb.list_tables()
        assert (await read(stub)).calls == {"unknown": 1}


class TestConnections:
    async def test_connection_is_counted_once_for_many_requests(self, stub: Stub) -> None:
        stub.reset(Conditions())
        async with clients(stub) as (sqs, _):
            for _ in range(5):
                await queue_url(sqs)
        figures = await read(stub)
        assert (figures.connections, figures.tls_handshakes) == (1, 0)

    async def test_tls_handshakes_are_counted(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=1))
        async with clients(stub, tls=True) as (sqs, dynamodb):
            await receive(sqs, await queue_url(sqs))
            await dynamodb.put_item(TableName=TABLE, Item={"k": {"S": "v"}})
        figures = await read(stub)
        assert (figures.connections, figures.tls_handshakes) == (2, 2)

    @pytest.mark.parametrize("slow", ["sqs", "dynamodb"])
    async def test_responses_take_the_latency_of_their_service(self, stub: Stub, slow: str) -> None:
        conditions = {
            "sqs": Conditions(sqs_latency_seconds=0.5),
            "dynamodb": Conditions(dynamodb_latency_seconds=0.5),
        }
        stub.reset(conditions[slow])
        loop = asyncio.get_running_loop()
        async with clients(stub) as (sqs, dynamodb):
            start = loop.time()
            await queue_url(sqs)
            between = loop.time()
            await dynamodb.put_item(TableName=TABLE, Item={"k": {"S": "v"}})
            end = loop.time()
        seconds = {"sqs": between - start, "dynamodb": end - between}
        assert seconds.pop(slow) >= 0.49
        assert min(seconds.values()) < 0.49

    async def test_split_and_pipelined_requests_get_responses_in_order(self, stub: Stub) -> None:
        stub.reset(Conditions())
        port = int(stub.address.plain_url.rsplit(":", 1)[1])
        names = ["first", "second", "x" * 3_000]
        requests = b"".join(
            b"POST / HTTP/1.1\r\nX-AMZ-TARGET:AmazonSQS.GetQueueUrl\r\ncontent-length: %d\r\n\r\n%b"
            % (len(content), content)
            for content in (json.dumps({"QueueName": name}).encode() for name in names)
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for start in range(0, len(requests), 70):
            writer.write(requests[start : start + 70])
            await writer.drain()
            await read(stub)  # so that the chunks arrive separately
        for name in names:
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            response = json.loads(await reader.readexactly(length))
            assert response["QueueUrl"].endswith(f"/{name}")
        writer.close()
        await writer.wait_closed()


class TestControl:
    def test_reset_clears_all_counters(self, stub: Stub) -> None:
        stub.reset(Conditions(messages=7))
        stub.offer(3)
        assert stub.figures().offered == 10
        figures = stub.reset(Conditions(messages=2))
        assert (figures.offered, figures.delivered, figures.calls) == (2, 0, {})

    def test_unknown_command_is_rejected(self, stub: Stub) -> None:
        with pytest.raises(StubError, match="nonsense"):
            stub._send_command("nonsense")

    def test_capacity_is_measured_for_each_hot_operation(self, stub: Stub) -> None:
        capacities = measure(stub, 500)
        assert [(each.operation, each.requests) for each in capacities] == [
            ("ReceiveMessage", 50),
            ("DeleteMessageBatch", 50),
            ("BatchExecuteStatement", 20),
        ]
        assert stub.figures().settled == 500
        assert all(each.cpu_us_per_request > 0 for each in capacities)
        assert capacities[2].cpu_us_per_message == capacities[2].cpu_us_per_request / 25


class TestTally:
    def test_percentile_is_the_nearest_rank(self) -> None:
        values = [float(number) for number in range(1, 101)]
        assert [nearest_rank(values, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
        assert nearest_rank([3.0], 0.99) == 3.0

    def test_percentiles_exclude_messages_settled_earlier(self) -> None:
        tally = Tally(Conditions(messages=4))
        tally.deliver(4)
        tally.settle([0, 1])
        assert tally.figures(since=2)["p50_seconds"] is None
        tally.settle([2])
        assert tally.figures(since=2)["p50_seconds"] is not None

    def test_message_that_was_never_delivered_cannot_be_settled(self) -> None:
        with pytest.raises(IndexError):
            Tally(Conditions(messages=4)).settle([0])

    def test_number_of_a_message_appears_only_in_event_and_user(self) -> None:
        assert body(410, 7).count("0" * 11 + "7") == 2
        assert len(body(410, 7)) == len(body(410, 123_456))


_DELETES_ONLY: Final = """
import json, os, urllib.request

def call(operation, body):
    request = urllib.request.Request(
        os.environ["AWS_ENDPOINT_URL"],
        json.dumps(body).encode(),
        {"X-Amz-Target": "AmazonSQS." + operation},
    )
    with urllib.request.urlopen(request) as response:
        return json.loads(response.read())

while True:
    received = call("ReceiveMessage", {"MaxNumberOfMessages": 10, "WaitTimeSeconds": 20})
    entries = [
        {"Id": message["MessageId"], "ReceiptHandle": message["ReceiptHandle"]}
        for message in received.get("Messages", [])
    ]
    if entries:
        call("DeleteMessageBatch", {"Entries": entries})
"""
# Connections for 20 messages: A opens one for each write and delete, B for each write.
_CONNECTIONS: Final = {
    "A": range(1 + 2 * 20, 1 + 2 * 20 + 1),
    "B": range(1 + 20, 10 + 20 + 1),
    "C": range(1, 1 + 10 + 10 + 1),
}


class TestRuns:
    @pytest.mark.parametrize("name", ["A", "B", "C", "D", "E", "C-tls", "D-tls"])
    def test_every_variant_writes_and_deletes_each_message_once(
        self, stub: Stub, name: str
    ) -> None:
        # A worker settles many messages at a time, so it needs more for a measurement.
        messages = 1_000 if SCENARIOS[name].is_worker else 20
        run = run_scenario(stub, SCENARIOS[name], Work(messages))
        assert run.messages == messages
        assert run.write_units_per_message == 1
        assert (run.tls_handshakes > 0) == name.endswith("-tls")
        assert run.cpu_us_per_message > 0
        assert 0 < run.p50_ms <= run.p99_ms
        if name in _CONNECTIONS:
            assert run.connections in _CONNECTIONS[name]
            assert run.calls == {"ReceiveMessage": 0.1, "PutItem": 1.0, "DeleteMessage": 1.0}

    def test_a_program_may_write_nothing_and_run_elsewhere(
        self, stub: Stub, tmp_path: Path
    ) -> None:
        (tmp_path / "program.py").write_text(_DELETES_ONLY)
        scenario = Scenario(
            "deletes",
            "deletes only",
            ("program.py",),
            1_000,
            interpreter=(sys.executable,),
            folder=tmp_path,
            writes=False,
        )
        run = run_scenario(stub, scenario, Work(1_000))
        assert set(run.calls) == {"ReceiveMessage", "DeleteMessageBatch"}
        assert run.write_units_per_message == 0
        with pytest.raises(RunError, match="wrong items_written"):
            run_scenario(stub, replace(scenario, writes=True), Work(1_000))

    def test_cpu_of_children_is_counted(self) -> None:
        command = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
        with subprocess.Popen(  # noqa: S603 - our own command
            (sys.executable, "-c", command), stdin=subprocess.PIPE
        ) as process:
            deadline = time.monotonic() + 10
            while len(found := with_children(process.pid)) < 2 and time.monotonic() < deadline:
                os.sched_yield()
            process.communicate(b"\n")
        assert found[0] == process.pid
        assert len(found) == 2

    def test_single_messages_and_an_idle_worker_are_measured(self, stub: Stub) -> None:
        assert 0 < measure_single_messages(stub, SCENARIOS["D"], 3) < 1_000
        idle = measure_idle(stub, SCENARIOS["D"], 0.2)
        assert idle.seconds >= 0.2
        assert idle.calls == 0
