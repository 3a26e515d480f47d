"""Every server starts, does the work it is there for, and is gone afterwards."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import aioboto3
import pytest

from tests.servers import launch, parts, process
from tests.servers.ports import free_port
from tests.servers.process import ServerError, serving

if TYPE_CHECKING:
    from types_aiobotocore_dynamodb import DynamoDBClient
    from types_aiobotocore_dynamodb.type_defs import BatchStatementResponseTypeDef


class Launch(Protocol):
    """A server's context manager."""

    def __call__(self) -> AbstractContextManager[str]: ...


MOTO = [
    pytest.param(launch.moto, id="moto"),
    pytest.param(launch.moto_in_process, id="moto_in_process"),
]
DYNAMODB_LOCAL = pytest.param(launch.dynamodb_local, id="dynamodb_local", marks=pytest.mark.servers)
MINISTACK = pytest.param(launch.ministack, id="ministack", marks=pytest.mark.servers)
FAUXQS = pytest.param(launch.fauxqs, id="fauxqs", marks=pytest.mark.servers)


def session(key: str = "test", secret: str = "test") -> aioboto3.Session:  # noqa: S107 -- emulators
    return aioboto3.Session(
        aws_access_key_id=key, aws_secret_access_key=secret, region_name="eu-west-1"
    )


SESSION = session()
ANSWERS = """
from http.server import BaseHTTPRequestHandler, HTTPServer
HTTPServer(("127.0.0.1", {port}), BaseHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    start: Launch = request.param
    with start() as url:
        yield url


def accepts(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout=1):
            return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("server", [*MOTO, MINISTACK, FAUXQS], indirect=True)
async def test_a_queue_hands_out_what_it_was_sent(server: str) -> None:
    async with SESSION.client("sqs", endpoint_url=server) as sqs:
        queue = (await sqs.create_queue(QueueName="letters"))["QueueUrl"]
        await sqs.send_message(QueueUrl=queue, MessageBody="hello")
        answer = await sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)
        assert [message["Body"] for message in answer["Messages"]] == ["hello"]
        handle = answer["Messages"][0]["ReceiptHandle"]
        await sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
    assert queue.startswith(server)


async def make_table(dynamodb: "DynamoDBClient", name: str) -> None:
    await dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


@pytest.mark.parametrize("server", [*MOTO, DYNAMODB_LOCAL, MINISTACK], indirect=True)
async def test_a_table_gives_back_the_item_that_was_put(server: str) -> None:
    async with SESSION.client("dynamodb", endpoint_url=server) as dynamodb:
        await make_table(dynamodb, "put")
        await dynamodb.put_item(TableName="put", Item={"id": {"S": "a"}, "n": {"N": "1"}})
        answer = await dynamodb.get_item(
            TableName="put", Key={"id": {"S": "a"}}, ConsistentRead=True
        )
    assert answer["Item"] == {"id": {"S": "a"}, "n": {"N": "1"}}


@pytest.mark.parametrize("server", [DYNAMODB_LOCAL, MINISTACK], indirect=True)
async def test_a_second_partiql_insert_answers_duplicate_item(server: str) -> None:
    async with SESSION.client("dynamodb", endpoint_url=server) as dynamodb:
        await make_table(dynamodb, "insert")

        async def insert(*keys: str) -> list["BatchStatementResponseTypeDef"]:
            statement = """INSERT INTO "insert" VALUE {'id': ?}"""
            answer = await dynamodb.batch_execute_statement(
                Statements=[{"Statement": statement, "Parameters": [{"S": key}]} for key in keys]
            )
            return answer["Responses"]

        first = await insert("a")
        second = await insert("a", "b")
    assert "Error" not in first[0]
    assert second[0]["Error"]["Code"] == "DuplicateItem"
    assert "Error" not in second[1]


@pytest.mark.servers
def test_the_aws_command_line_talks_to_a_server(tmp_path: Path) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    elsewhere = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with launch.fauxqs() as url:
        command = [str(launch.aws_command()), "--endpoint-url", url, "--region", "eu-west-1"]
        done = subprocess.run(  # noqa: S603 -- the command stands above
            [*command, "sqs", "create-queue", "--queue-name", "letters", "--output", "text"],
            env={**credentials, **elsewhere},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip().startswith(url)


@pytest.mark.servers
async def test_ministack_refuses_what_no_policy_grants_when_asked_to() -> None:
    with launch.ministack(enforce_policies=True) as url:
        async with SESSION.client("iam", endpoint_url=url) as iam:
            await iam.create_user(UserName="nobody")
            key = (await iam.create_access_key(UserName="nobody"))["AccessKey"]
        nobody = session(key["AccessKeyId"], key["SecretAccessKey"])
        async with nobody.client("sqs", endpoint_url=url) as sqs:
            with pytest.raises(sqs.exceptions.ClientError, match="AccessDenied"):
                await sqs.create_queue(QueueName="letters")


@pytest.mark.parametrize("start", [*MOTO, DYNAMODB_LOCAL, MINISTACK, FAUXQS])
def test_a_server_is_gone_after_its_block(start: Launch) -> None:
    with start() as url:
        assert accepts(url)
    assert not accepts(url)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a second loopback address")
@pytest.mark.parametrize("start", [*MOTO, MINISTACK, FAUXQS])
def test_a_server_listens_on_the_loopback_interface_alone(start: Launch) -> None:
    with start() as url, socket.socket() as other:
        # A listener on every interface would hold this address too.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.2", urlsplit(url).port))


@pytest.mark.parametrize("start", [launch.dynamodb_local, launch.ministack, launch.fauxqs])
def test_a_missing_download_names_the_command_that_brings_it(
    start: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "CACHE", tmp_path)
    with pytest.raises(parts.NotDownloadedError, match="run `make servers`"), start():
        pass


def test_a_server_that_ends_early_is_quoted() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no room left')"]
    failure = pytest.raises(ServerError, match=r"ended with 1 before(.|\n)*no room left")
    with failure, serving(command, free_port()):
        pass


def test_a_program_that_does_not_exist_is_named() -> None:
    failure = pytest.raises(ServerError, match="no-such-server: No such file")
    with failure, serving(["no-such-server"], free_port()):
        pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    seen: list[subprocess.Popen[bytes]] = []
    start = process._start

    def start_and_note(*arguments: Any) -> subprocess.Popen[bytes]:
        seen.append(start(*arguments))
        return seen[-1]

    monkeypatch.setattr(process, "_start", start_and_note)
    return seen


def test_a_server_that_never_answers_is_ended_at_the_deadline(
    started: list[subprocess.Popen[bytes]],
) -> None:
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    failure = pytest.raises(ServerError, match="no answer on port")
    with failure, serving(command, free_port(), deadline_seconds=0.1):
        pass
    assert started[0].returncode == -signal.SIGTERM


def test_a_server_that_does_not_end_when_asked_to_is_killed(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_PATIENCE_SECONDS", 0.1)
    port = free_port()
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with serving([sys.executable, "-c", stubborn + ANSWERS.format(port=port)], port) as url:
        assert accepts(url)
    assert started[0].returncode == -signal.SIGKILL


def test_a_server_that_dies_while_it_is_needed_is_reported(
    started: list[subprocess.Popen[bytes]],
) -> None:
    port = free_port()
    once = ANSWERS.format(port=port).replace("serve_forever()", "handle_request()")
    failure = pytest.raises(ServerError, match="ended with 7 while it was needed")
    with failure, serving([sys.executable, "-c", f"{once}raise SystemExit(7)"], port):
        started[0].wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_server_dies_with_a_test_run_that_is_killed() -> None:
    port = free_port()
    program = f"""
import sys
from tests.servers.process import serving
with serving([sys.executable, "-c", {ANSWERS.format(port=port)!r}], {port}) as url:
    print(url, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(  # noqa: S603 -- the program stands above
        [sys.executable, "-c", program],
        cwd=parts.SOURCES.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert accepts(url)
        run.send_signal(signal.SIGKILL)
    wait_until_refused(url)


def wait_until_refused(url: str) -> None:
    deadline = time.monotonic() + 10
    while accepts(url):
        assert time.monotonic() < deadline, f"{url} still answers"
        time.sleep(0.02)
