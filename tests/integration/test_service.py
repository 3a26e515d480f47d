"""Tests of how the service stops, gives up, and rejects settings that cannot work."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import Any
from uuid import uuid4

import boto3  # type: ignore[import-untyped, unused-ignore] # boto3 has no types
import pytest
from structlog.testing import capture_logs

from tests.contract.running import RunningServers
from tests.integration.environment import MOTO, Environment, Servers, good, stated
from tests.integration.running import assert_balance, ended, opened, until
from worker.errors import AWSDeniedError, AWSNotFoundError, GaveUpError, SettingsError
from worker.service import serve
from worker.settings import Settings


def log_of(logs: list[Any], event: str) -> dict[str, Any]:
    (line,) = [line for line in logs if line["event"] == event]
    found: dict[str, Any] = line
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_accounting_balances_after_a_signal(
    number: signal.Signals, environment: Environment
) -> None:
    bodies = [*good(40), *good(5), *(f"bad {n}" for n in range(5))]
    with capture_logs() as logs:
        serving = asyncio.create_task(serve(environment.settings(wait_seconds=1)))
        await environment.send(bodies)

        async def done() -> bool:
            return serving.done() or await environment.waiting() == (0, 0)

        await until(done)
        assert not serving.done()
        os.kill(os.getpid(), number)
        await serving
    # The process exits next, and its exit code must not change.
    handlers = [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)]
    assert handlers == [signal.SIG_IGN, signal.SIG_IGN]
    stopped = log_of(logs, "stopped")
    assert stopped["balanced"] is True
    assert stopped["in_flight"] == stopped["held"] == stopped["returned"] == 0
    assert (stopped["recorded"], stopped["duplicates"]) == (40, 5)
    assert stopped["dead_by_reason"] == {"malformed": 5}
    assert log_of(logs, "stopping")["signal"] == number.name
    assert len(await environment.recorded()) == 40
    assert len(await environment.dead()) == 5


async def test_service_gives_up_when_its_queue_is_deleted(environment: Environment) -> None:
    async with opened(environment.settings(give_up_seconds=1.0)) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await environment.send(good(5))
        await until(lambda: ended(pipeline) == 5)
        loop = asyncio.get_running_loop()
        deleted_at = loop.time()
        await asyncio.to_thread(environment.sqs.delete_queue, QueueUrl=environment.queue_url)
        async with asyncio.timeout(30):
            with pytest.raises(GaveUpError, match=r"denied for 1 s or longer: ReceiveMessage"):
                await running
        assert loop.time() - deleted_at >= 1.0
    assert_balance(pipeline)
    assert len(await environment.recorded()) == 5


async def test_service_gives_up_and_returns_messages_when_its_table_is_deleted(
    environment: Environment,
) -> None:
    async with opened(environment.settings(give_up_seconds=1.0)) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await environment.send(good(5))
        await until(lambda: ended(pipeline) == 5)
        await asyncio.to_thread(
            environment.dynamodb.delete_table, TableName=environment.acceptances_name
        )
        await environment.send(good(15, first=5))
        async with asyncio.timeout(30):
            with pytest.raises(GaveUpError, match="denied for 1 s or longer"):
                await running
    assert_balance(pipeline)
    assert ended(pipeline) == 5
    assert await environment.waiting() == (15, 0)
    assert await environment.dead() == []


async def refused(settings: Settings) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        async with asyncio.timeout(20):
            await serve(settings)
    return caught.value.problems


async def test_same_queue_by_two_names_is_rejected(environment: Environment) -> None:
    problems = await refused(environment.settings(dead_letter_queue=environment.queue_url))
    assert problems == [
        (
            "redrive target: AUP_QUEUE and AUP_DEAD_LETTER_QUEUE are the same queue, "
            f"{environment.queue_url}; name another: --dead-letter-queue (AUP_DEAD_LETTER_QUEUE)"
        )
    ]


async def test_fifo_queues_are_rejected_with_their_variables(environment: Environment) -> None:
    urls = [
        environment.create_queue(f"{environment.settings().queue}-{n}.fifo", FifoQueue="true")
        for n in range(2)
    ]
    names = [url.rsplit("/", 1)[-1] for url in urls]
    problems = await refused(environment.settings(queue=names[0], dead_letter_queue=names[1]))
    assert [problem.partition("; ")[2] for problem in problems] == [
        "name a standard queue: --queue (AUP_QUEUE)",
        "name a standard queue: --dead-letter-queue (AUP_DEAD_LETTER_QUEUE)",
    ]


async def test_tables_with_other_keys_are_rejected(environment: Environment) -> None:
    other = f"{environment.acceptances_name}-other"
    environment.create_table(other, "user", "policy")
    (problem,) = await refused(environment.settings(aws={"user_table_name": other}))
    assert f"table {other} has other keys" in problem


async def test_swapped_tables_are_rejected(environment: Environment) -> None:
    names = {
        "table_name": environment.acceptances_name,
        "user_table_name": environment.policies_name,
    }
    problems = await refused(environment.settings(aws=names))
    assert ["has other keys" in problem for problem in problems] == [True, True]


@pytest.mark.parametrize("missing", ["queue", "dead_letter_queue"])
async def test_missing_queue_ends_the_start_with_advice(
    missing: str, environment: Environment
) -> None:
    with pytest.raises(AWSNotFoundError, match="create it with `aup-worker init`"):
        await serve(environment.settings(None, **{missing: "nowhere"}))


@pytest.mark.parametrize("missing", ["table_name", "user_table_name"])
async def test_missing_table_ends_the_start(missing: str, environment: Environment) -> None:
    with pytest.raises(AWSNotFoundError):
        await serve(environment.settings(aws={missing: "nowhere"}))


async def test_missing_credentials_end_the_start(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(AWSDeniedError, match="no usable AWS credentials"):
        await serve(environment.settings())


async def test_missing_region_ends_the_start_with_its_variable(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_REGION")
    with pytest.raises(SettingsError, match="pass --region, or set AWS_REGION"):
        await serve(environment.settings(aws={"region": None}))


async def test_attempts_are_limited_by_the_redrive_policy(
    servers: RunningServers,
) -> None:
    environment = Environment(servers.url("moto"), servers.url("moto"), MOTO)
    environment.create()
    arn = environment.sqs.get_queue_attributes(
        QueueUrl=environment.dead_letter_url, AttributeNames=["QueueArn"]
    )["Attributes"]["QueueArn"]
    redrive = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 3})
    environment.sqs.set_queue_attributes(
        QueueUrl=environment.queue_url, Attributes={"RedrivePolicy": redrive}
    )
    async with opened(
        environment.settings(unknown_policy_seconds=1.0, max_attempts=50)
    ) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await environment.send([json.dumps(stated(1, version="unknown"))])
        await until(lambda: ended(pipeline) == 1)
        pipeline.stopping.set()
        await running
    assert_balance(pipeline)
    (letter,) = await environment.dead()
    assert (letter.note["reason"], letter.note["receive_count"]) == ("unknown_policy", 2)


ALLOWED = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["sqs:*", "dynamodb:*"], "Resource": "*"}],
}


class User:
    """User of a server that enforces policies; this process uses its access key."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._iam = boto3.client(
            "iam",
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 -- the emulator's own
        )
        self._name = f"worker-{uuid4().hex[:12]}"
        self._iam.create_user(UserName=self._name)
        key = self._iam.create_access_key(UserName=self._name)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])

    def allow(self) -> None:
        """Grant all permissions."""
        self._iam.put_user_policy(
            UserName=self._name, PolicyName="all", PolicyDocument=json.dumps(ALLOWED)
        )

    def deny(self) -> None:
        """Revoke all permissions."""
        self._iam.delete_user_policy(UserName=self._name, PolicyName="all")


@pytest.mark.servers
async def test_service_needs_permissions_to_start_and_gives_up_without_them(
    servers: RunningServers, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = servers.url("ministack_enforcing")
    environment = Environment(url, url, Servers("ministack", "ministack", "batch"))
    environment.create()
    user = User(url, monkeypatch)
    with pytest.raises(AWSDeniedError):
        await serve(environment.settings(give_up_seconds=1.0))
    user.allow()
    async with opened(environment.settings(give_up_seconds=1.0)) as pipeline:
        running = asyncio.create_task(pipeline.run())
        await environment.send(good(5))
        await until(lambda: ended(pipeline) == 5)
        user.deny()
        async with asyncio.timeout(30):
            with pytest.raises(GaveUpError, match="denied for 1 s or longer"):
                await running
    assert_balance(pipeline)
    assert len(await environment.recorded()) == 5
