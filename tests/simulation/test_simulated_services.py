"""Tests of the faults between the simulated services and their callers."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from tests.simulation.faults import Denial, FaultRates, Faults
from tests.simulation.simulated_dynamodb import SimulatedDynamoDB
from tests.simulation.simulated_session import SimulatedSession
from tests.simulation.simulated_sqs import SimulatedSQS
from tests.simulation.virtual_clock import abandon, run, simulated

INSERT = """INSERT INTO "facts" VALUE {'user_id': ?, 'n': ?}"""
SAMPLES = 300


async def _opened(
    seed: int = 1, **rates: float
) -> tuple[Faults, SimulatedSQS, str, SimulatedDynamoDB]:
    """Return services whose faults start after the setup."""
    faults = Faults(seed)
    sqs, dynamodb = SimulatedSQS(faults), SimulatedDynamoDB(faults)
    url = (await sqs.create_queue(QueueName="source"))["QueueUrl"]
    await dynamodb.create_table(
        TableName="facts", KeySchema=[{"AttributeName": "user_id", "KeyType": "HASH"}]
    )
    faults.rates = FaultRates(**rates)
    return faults, sqs, url, dynamodb


async def _put(dynamodb: SimulatedDynamoDB, user_id: str) -> Exception | None:
    try:
        await dynamodb.put_item(TableName="facts", Item={"user_id": user_id})
    except (ClientError, BotoCoreError) as error:
        return error
    return None


@simulated
async def test_a_throttled_call_has_no_effect() -> None:
    faults, _, _, dynamodb = await _opened(throttled=0.5)
    errors = [await _put(dynamodb, str(n)) for n in range(SAMPLES)]
    failed = [error for error in errors if error]
    assert len(dynamodb.tables["facts"]) == SAMPLES - len(failed)
    assert all(isinstance(error, ClientError) for error in failed)
    assert faults.injected["throttled"] == len(failed) > SAMPLES / 4


@simulated
async def test_a_lost_request_has_no_effect() -> None:
    _, _, _, dynamodb = await _opened(lost_request=0.5)
    errors = [await _put(dynamodb, str(n)) for n in range(SAMPLES)]
    failed = [error for error in errors if error]
    assert len(dynamodb.tables["facts"]) == SAMPLES - len(failed)
    assert {type(error).__name__ for error in failed} == {
        "ConnectTimeoutError",
        "ConnectionClosedError",
        "EndpointConnectionError",
        "ReadTimeoutError",
    }


@simulated
async def test_write_with_a_lost_response_is_stored() -> None:
    _, _, _, dynamodb = await _opened(lost_response=1.0)
    errors = [await _put(dynamodb, str(n)) for n in range(SAMPLES)]
    assert len(dynamodb.tables["facts"]) == SAMPLES
    assert {type(error).__name__ for error in errors} == {
        "ConnectionClosedError",
        "ReadTimeoutError",
    }


@simulated
async def test_write_with_a_server_error_may_or_may_not_be_stored() -> None:
    _, _, _, dynamodb = await _opened(server_error=1.0)
    for n in range(SAMPLES):
        error = await _put(dynamodb, str(n))
        assert isinstance(error, ClientError)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] >= 500
    assert 0 < len(dynamodb.tables["facts"]) < SAMPLES


@simulated
async def test_abandoned_call_may_take_effect_later() -> None:
    faults, _, _, dynamodb = await _opened(delayed_effect=1.0)
    call = asyncio.create_task(_put(dynamodb, "u"))
    await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    assert len(dynamodb.tables["facts"]) == 0
    await asyncio.sleep(faults.durations.delayed_effect_seconds)
    assert len(dynamodb.tables["facts"]) == 1


@simulated
async def test_slow_response_takes_seconds() -> None:
    _, _, _, dynamodb = await _opened(slow_response=1.0)
    await _put(dynamodb, "u")
    assert asyncio.get_running_loop().time() > 1


@simulated
async def test_single_statements_fail_while_their_batch_succeeds() -> None:
    _, _, _, dynamodb = await _opened(failed_statement=0.3)
    codes = []
    for n in range(30):
        response = await dynamodb.batch_execute_statement(
            Statements=[
                {"Statement": INSERT, "Parameters": [f"{n}-{index}", n]} for index in range(10)
            ]
        )
        codes += [response.get("Error", {}).get("Code") for response in response["Responses"]]
    assert set(codes) == {
        None,
        "ThrottlingError",
        "ProvisionedThroughputExceeded",
        "InternalServerError",
    }
    written = len(dynamodb.tables["facts"])
    # An internal error may come after the write.
    assert codes.count(None) < written < codes.count(None) + codes.count("InternalServerError")


@simulated
async def test_single_entries_fail_while_their_batch_succeeds() -> None:
    _, sqs, url, _ = await _opened(failed_entry=0.3)
    failed = 0
    for n in range(30):
        response = await sqs.send_message_batch(
            QueueUrl=url, Entries=[{"Id": str(i), "MessageBody": f"{n}-{i}"} for i in range(10)]
        )
        failed += len(response.get("Failed", []))
        assert all(not entry["SenderFault"] for entry in response.get("Failed", []))
    assert 0 < failed < 300
    assert len(sqs.queue("source").messages) == 300 - failed


async def _drained(sqs: SimulatedSQS, url: str, *, delete: bool = True) -> list[str]:
    bodies = []
    while messages := (
        await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=20)
    ).get("Messages"):
        bodies += [message["Body"] for message in messages]
        for message in messages if delete else []:
            await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return bodies


async def _send(sqs: SimulatedSQS, url: str, count: int) -> list[str]:
    bodies = [f"{n:04}" for n in range(count)]
    for body in bodies:
        await sqs.send_message(QueueUrl=url, MessageBody=body)
    return bodies


@simulated
async def test_messages_are_received_once_and_in_order_without_faults() -> None:
    _, sqs, url, _ = await _opened()
    assert await _drained(sqs, url) == await _drained(sqs, url) == []
    bodies = await _send(sqs, url, 50)
    assert await _drained(sqs, url) == bodies


@simulated
async def test_messages_may_be_received_out_of_order() -> None:
    _, sqs, url, _ = await _opened(out_of_order=0.5)
    bodies = await _send(sqs, url, 50)
    received = await _drained(sqs, url)
    assert received != bodies
    assert sorted(received) == bodies


@simulated
async def test_message_may_be_received_twice_even_in_one_response() -> None:
    _, sqs, url, _ = await _opened(duplicate_receive=0.3)
    await _send(sqs, url, 50)
    in_one_answer = 0
    while messages := (await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)).get(
        "Messages"
    ):
        in_one_answer += len(messages) - len({message["MessageId"] for message in messages})
    assert sqs.queue("source").received_count > 50
    assert in_one_answer > 0


@simulated
async def test_deleted_message_may_reappear_and_its_old_handle_is_invalid() -> None:
    faults, sqs, url, _ = await _opened(reappearance=1.0)
    await _send(sqs, url, 1)
    assert len(await _drained(sqs, url, delete=False)) == 1
    await asyncio.sleep(30)
    [message] = (await sqs.receive_message(QueueUrl=url))["Messages"]
    handle = message["ReceiptHandle"]
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    await asyncio.sleep(faults.durations.reappearance_seconds)
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=handle)
    assert len(sqs.queue("source").messages) == 1
    [message] = (await sqs.receive_message(QueueUrl=url))["Messages"]
    faults.stop()
    await sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    assert sqs.queue("source").messages == {}


@simulated
async def test_only_consistent_reads_always_see_the_latest_write() -> None:
    _, _, _, dynamodb = await _opened(stale_read=1.0)
    await _put(dynamodb, "u")
    key = {"user_id": "u"}
    assert "Item" not in await dynamodb.get_item(TableName="facts", Key=key)
    assert "Item" in await dynamodb.get_item(TableName="facts", Key=key, ConsistentRead=True)
    await asyncio.sleep(2)
    assert "Item" in await dynamodb.get_item(TableName="facts", Key=key)


@simulated
async def test_breakdown_ends_on_recovery() -> None:
    faults, sqs, url, dynamodb = await _opened()
    faults.break_down("dynamodb")
    assert await _put(dynamodb, "u") is not None
    assert await _send(sqs, url, 1)
    faults.recover("dynamodb")
    assert await _put(dynamodb, "u") is None


@simulated
async def test_no_call_fails_after_the_faults_are_stopped() -> None:
    faults, sqs, url, dynamodb = await _opened(
        throttled=0.2, server_error=0.2, lost_request=0.2, lost_response=0.2, out_of_order=0.5
    )
    faults.break_down("sqs")
    faults.stop()
    assert [await _put(dynamodb, str(n)) for n in range(SAMPLES)] == [None] * SAMPLES
    bodies = await _send(sqs, url, 20)
    assert await _drained(sqs, url) == bodies
    assert not faults.injected


def test_the_same_seed_gives_the_same_faults_at_the_same_time() -> None:
    assert run(lambda: _story(3)) == run(lambda: _story(3))
    assert run(lambda: _story(3)) != run(lambda: _story(4))


async def _story(seed: int) -> list[tuple[float, str]]:
    _, _, _, dynamodb = await _opened(seed)
    dynamodb.faults.rates = Faults.drawn(seed, max_rate=0.5).rates
    loop = asyncio.get_running_loop()
    scenario: list[tuple[float, str]] = []

    async def put(n: int) -> None:
        scenario.append((loop.time(), str(await _put(dynamodb, str(n)))))

    await asyncio.gather(*(put(n) for n in range(100)))
    return scenario


@simulated
async def test_sessions_share_the_services() -> None:
    _, sqs, url, dynamodb = await _opened()
    one, other = SimulatedSession(sqs, dynamodb), SimulatedSession(sqs, dynamodb)
    async with one.client("sqs", region_name="eu-west-1") as sender, other.client("sqs") as taker:
        await sender.send_message(QueueUrl=url, MessageBody="a")
        assert (await taker.receive_message(QueueUrl=url))["Messages"][0]["Body"] == "a"
    assert one.openings == [("client", "sqs", {"region_name": "eu-west-1"})]


@simulated
async def test_a_resource_has_its_client_under_meta() -> None:
    _, sqs, _, dynamodb = await _opened()
    session = SimulatedSession(sqs, dynamodb)
    async with session.resource("dynamodb") as resource:
        assert session.open_count == 1
        client = resource.meta.client
        await client.put_item(TableName="facts", Item={"user_id": "u"})
    assert session.open_count == 0
    with pytest.raises(HTTPClientError, match="closed"):
        await client.put_item(TableName="facts", Item={"user_id": "v"})


@simulated
async def test_unsupported_operation_raises_attribute_error() -> None:
    _, sqs, _, dynamodb = await _opened()
    async with SimulatedSession(sqs, dynamodb).client("sqs") as client:
        with pytest.raises(AttributeError):
            client.purge_queue  # noqa: B018 - the access raises


@simulated
async def test_call_in_flight_of_a_killed_process_has_no_effect_and_no_response() -> None:
    _, sqs, _, dynamodb = await _opened()
    session = SimulatedSession(sqs, dynamodb)
    async with session.resource("dynamodb") as resource:
        put = resource.meta.client.put_item(TableName="facts", Item={"user_id": "u"})
        call = asyncio.create_task(put)
        await asyncio.sleep(0)
        session.kill()
        done, _ = await asyncio.wait([call], timeout=3600)
        assert not done
        assert len(dynamodb.tables["facts"]) == 0
        await abandon(call)
    assert len(dynamodb.tables["facts"]) == 0


@simulated
async def test_waiting_poll_of_a_killed_process_receives_nothing() -> None:
    _, sqs, url, dynamodb = await _opened()
    session = SimulatedSession(sqs, dynamodb)
    async with session.client("sqs") as client:
        poll = asyncio.create_task(client.receive_message(QueueUrl=url, WaitTimeSeconds=20))
        await asyncio.sleep(5)
        session.kill()
        await _send(sqs, url, 1)
        assert len(await _drained(sqs, url)) == 1
        await abandon(poll)


@simulated
async def test_killed_process_cannot_clean_up() -> None:
    _, sqs, url, dynamodb = await _opened()
    session = SimulatedSession(sqs, dynamodb)
    await _send(sqs, url, 1)

    async def work() -> None:
        async with session.client("sqs") as client:
            [message] = (await client.receive_message(QueueUrl=url))["Messages"]
            try:
                await asyncio.sleep(3600)
            finally:
                handle = message["ReceiptHandle"]
                await client.delete_message(QueueUrl=url, ReceiptHandle=handle)

    worker = asyncio.create_task(work())
    await asyncio.sleep(1)
    session.kill()
    await abandon(worker)
    assert len(sqs.queue("source").messages) == 1


async def _refusal(call: Any) -> str | None:
    try:
        await call
    except ClientError as error:
        details: Any = error.response["Error"]
        return str(details["Code"])
    return None


@simulated
async def test_denial_applies_to_its_service_until_it_ends() -> None:
    faults, sqs, url, dynamodb = await _opened()
    faults.deny("dynamodb", Denial(code="ExpiredTokenException"))
    assert await _refusal(dynamodb.describe_table(TableName="facts")) == "ExpiredTokenException"
    assert await _refusal(sqs.receive_message(QueueUrl=url)) is None
    faults.deny("sqs", Denial(code="AccessDeniedException"))
    assert await _refusal(sqs.receive_message(QueueUrl=url)) == "AccessDenied"
    faults.allow("sqs")
    faults.stop()
    assert await _refusal(sqs.receive_message(QueueUrl=url)) is None
    assert await _refusal(dynamodb.describe_table(TableName="facts")) is None
    assert faults.injected["denied"] == 2


@simulated
async def test_denial_of_one_permission_affects_no_other_call() -> None:
    faults, _, _, dynamodb = await _opened()
    faults.deny("dynamodb", Denial(code="AccessDeniedException", operations=frozenset({"PutItem"})))
    item = {"user_id": "u"}
    assert await _refusal(dynamodb.put_item(TableName="facts", Item=item)) is not None
    assert await _refusal(dynamodb.get_item(TableName="facts", Key=item)) is None
    assert len(dynamodb.tables["facts"]) == 0


@simulated
async def test_denied_statement_fails_within_its_batch() -> None:
    faults, _, _, dynamodb = await _opened()
    operations = frozenset({"PartiQLInsert"})
    faults.deny("dynamodb", Denial(code="AccessDeniedException", operations=operations))
    statements: list[dict[str, Any]] = [{"Statement": INSERT, "Parameters": ["u", 1]}]
    response = await dynamodb.batch_execute_statement(Statements=statements)
    assert [response["Error"]["Code"] for response in response["Responses"]] == ["AccessDenied"]
    assert len(dynamodb.tables["facts"]) == 0


@simulated
async def test_missing_queue_or_table_is_restored_with_its_contents() -> None:
    faults, sqs, url, dynamodb = await _opened()
    await _send(sqs, url, 1)
    await dynamodb.put_item(TableName="facts", Item={"user_id": "u"})
    for name in ("source", "facts"):
        faults.remove(name)
    code = await _refusal(sqs.receive_message(QueueUrl=url))
    assert code == "AWS.SimpleQueueService.NonExistentQueue"
    get: dict[str, Any] = {"TableName": "facts", "Key": {"user_id": "u"}}
    assert await _refusal(dynamodb.get_item(**get)) == "ResourceNotFoundException"
    for name in ("source", "facts"):
        faults.restore(name)
    assert len(await _drained(sqs, url)) == 1
    assert "Item" in await dynamodb.get_item(**get)


@simulated
async def test_missing_dead_letter_queue_receives_no_message_from_the_source() -> None:
    faults, sqs, _, _ = await _opened()
    dead_letter_url = (await sqs.create_queue(QueueName="dead"))["QueueUrl"]
    arn = sqs.queue("dead").arn
    policy = f'{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": 1}}'
    url = (await sqs.create_queue(QueueName="s2", Attributes={"RedrivePolicy": policy}))["QueueUrl"]
    await _send(sqs, url, 1)
    faults.remove("dead")
    for _ in range(3):
        await sqs.receive_message(QueueUrl=url, VisibilityTimeout=0)
    assert len(sqs.queue("s2").messages) == 1
    faults.restore("dead")
    await sqs.receive_message(QueueUrl=url)
    assert len(await _drained(sqs, dead_letter_url)) == 1


def test_a_message_costs_little_real_time() -> None:
    count = 2000

    async def through_everything() -> None:
        _, sqs, url, dynamodb = await _opened()
        for begin in range(0, count, 10):
            entries = [{"Id": str(n), "MessageBody": f"{begin + n}"} for n in range(10)]
            await sqs.send_message_batch(QueueUrl=url, Entries=entries)
        while messages := await _batch(sqs, url):
            statements: list[dict[str, Any]] = [
                {"Statement": INSERT, "Parameters": [message["Body"], 1]} for message in messages
            ]
            await dynamodb.batch_execute_statement(Statements=statements)
            deletions = [
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]}
                for n, message in enumerate(messages)
            ]
            await sqs.delete_message_batch(QueueUrl=url, Entries=deletions)
        assert len(dynamodb.tables["facts"]) == count

    begun = time.process_time()
    run(through_everything)
    # Ten times the usual time, for slow machines.
    assert (time.process_time() - begun) / count < 250e-6


async def _batch(sqs: SimulatedSQS, url: str) -> list[dict[str, Any]]:
    response = await sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
    messages: list[dict[str, Any]] = response.get("Messages", [])
    return messages
