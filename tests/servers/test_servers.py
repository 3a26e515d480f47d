"""Every server starts, works and stops."""

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
RESPONDING_SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
HTTPServer(("127.0.0.1", {port}), BaseHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    start: Launch = request.param
    with start() as url:
        yield url


def is_listening(url: str) -> bool:
    address = urlsplit(url)
    try:
        with socket.create_connection((address.hostname, address.port), timeout=1):
            return True
    except ConnectionRefusedError:
        return False


@pytest.mark.parametrize("server", [*MOTO, MINISTACK, FAUXQS], indirect=True)
async def test_queue_returns_the_message_that_was_sent(server: str) -> None:
    async with SESSION.client("sqs", endpoint_url=server) as sqs:
        queue = (await sqs.create_queue(QueueName="messages"))["QueueUrl"]
        await sqs.send_message(QueueUrl=queue, MessageBody="hello")
        response = await sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)
        assert [message["Body"] for message in response["Messages"]] == ["hello"]
        handle = response["Messages"][0]["ReceiptHandle"]
        await sqs.delete_message(QueueUrl=queue, ReceiptHandle=handle)
    assert queue.startswith(server)


async def create_table(dynamodb: "DynamoDBClient", name: str) -> None:
    await dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    await dynamodb.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1})


@pytest.mark.parametrize("server", [*MOTO, DYNAMODB_LOCAL, MINISTACK], indirect=True)
async def test_table_returns_the_item_that_was_put(server: str) -> None:
    async with SESSION.client("dynamodb", endpoint_url=server) as dynamodb:
        await create_table(dynamodb, "put")
        await dynamodb.put_item(TableName="put", Item={"id": {"S": "a"}, "n": {"N": "1"}})
        response = await dynamodb.get_item(
            TableName="put", Key={"id": {"S": "a"}}, ConsistentRead=True
        )
    assert response["Item"] == {"id": {"S": "a"}, "n": {"N": "1"}}


@pytest.mark.parametrize("server", [DYNAMODB_LOCAL, MINISTACK], indirect=True)
async def test_second_partiql_insert_returns_duplicate_item(server: str) -> None:
    async with SESSION.client("dynamodb", endpoint_url=server) as dynamodb:
        await create_table(dynamodb, "insert")

        async def insert(*keys: str) -> list["BatchStatementResponseTypeDef"]:
            statement = """INSERT INTO "insert" VALUE {'id': ?}"""
            response = await dynamodb.batch_execute_statement(
                Statements=[{"Statement": statement, "Parameters": [{"S": key}]} for key in keys]
            )
            return response["Responses"]

        first = await insert("a")
        second = await insert("a", "b")
    assert "Error" not in first[0]
    assert second[0]["Error"]["Code"] == "DuplicateItem"
    assert "Error" not in second[1]


@pytest.mark.servers
def test_aws_cli_works_with_a_server(tmp_path: Path) -> None:
    credentials = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    with launch.fauxqs() as url:
        command = [str(launch.aws_command()), "--endpoint-url", url, "--region", "eu-west-1"]
        done = subprocess.run(  # noqa: S603 -- the command is defined above
            [*command, "sqs", "create-queue", "--queue-name", "messages", "--output", "text"],
            env={**credentials, **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip().startswith(url)


@pytest.mark.servers
async def test_ministack_denies_what_no_policy_allows_when_enforcing() -> None:
    with launch.ministack(enforce_policies=True) as url:
        async with SESSION.client("iam", endpoint_url=url) as iam:
            await iam.create_user(UserName="unauthorized")
            key = (await iam.create_access_key(UserName="unauthorized"))["AccessKey"]
        unauthorized = session(key["AccessKeyId"], key["SecretAccessKey"])
        async with unauthorized.client("sqs", endpoint_url=url) as sqs:
            with pytest.raises(sqs.exceptions.ClientError, match="AccessDenied"):
                await sqs.create_queue(QueueName="messages")


@pytest.mark.parametrize("start", [*MOTO, DYNAMODB_LOCAL, MINISTACK, FAUXQS])
def test_server_stops_after_its_block(start: Launch) -> None:
    with start() as url:
        assert is_listening(url)
    assert not is_listening(url)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a second loopback address")
@pytest.mark.parametrize("start", [*MOTO, MINISTACK, FAUXQS])
def test_server_listens_only_on_the_loopback_interface(start: Launch) -> None:
    with start() as url, socket.socket() as other:
        # A listener on every interface would occupy this address too.
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.2", urlsplit(url).port))


@pytest.mark.parametrize("start", [launch.dynamodb_local, launch.ministack, launch.fauxqs])
def test_missing_download_names_the_command_for_it(
    start: Launch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(parts, "CACHE", tmp_path)
    with pytest.raises(parts.NotDownloadedError, match="run `make servers`"), start():
        pass


def test_output_of_a_server_that_exits_early_is_reported() -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('no space left')"]
    failure = pytest.raises(ServerError, match=r"exited with 1 before(.|\n)*no space left")
    with failure, serving(command, free_port()):
        pass


def test_missing_program_is_named() -> None:
    failure = pytest.raises(ServerError, match="no-such-server: No such file")
    with failure, serving(["no-such-server"], free_port()):
        pass


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    processes: list[subprocess.Popen[bytes]] = []
    start = process._start

    def start_and_note(*arguments: Any) -> subprocess.Popen[bytes]:
        processes.append(start(*arguments))
        return processes[-1]

    monkeypatch.setattr(process, "_start", start_and_note)
    return processes


def test_server_that_never_responds_is_terminated_at_the_deadline(
    started: list[subprocess.Popen[bytes]],
) -> None:
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    failure = pytest.raises(ServerError, match="no response on port")
    with failure, serving(command, free_port(), deadline_seconds=0.1):
        pass
    assert started[0].returncode == -signal.SIGTERM


def test_server_that_ignores_sigterm_is_killed(
    started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_STOP_SECONDS", 0.1)
    port = free_port()
    ignore_sigterm = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    with serving(
        [sys.executable, "-c", ignore_sigterm + RESPONDING_SERVER.format(port=port)], port
    ) as url:
        assert is_listening(url)
    assert started[0].returncode == -signal.SIGKILL


def test_server_that_exits_while_it_is_needed_is_reported(
    started: list[subprocess.Popen[bytes]],
) -> None:
    port = free_port()
    one_request = RESPONDING_SERVER.format(port=port).replace("serve_forever()", "handle_request()")
    failure = pytest.raises(ServerError, match="exited with 7 while it was needed")
    with failure, serving([sys.executable, "-c", f"{one_request}raise SystemExit(7)"], port):
        started[0].wait(10)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_server_is_killed_with_its_test_run() -> None:
    port = free_port()
    program = f"""
import sys
from tests.servers.process import serving
with serving([sys.executable, "-c", {RESPONDING_SERVER.format(port=port)!r}], {port}) as url:
    print(url, flush=True)
    sys.stdin.read()
"""
    with subprocess.Popen(  # noqa: S603 -- the program is defined above
        [sys.executable, "-c", program],
        cwd=parts.SOURCES.parents[1],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as run:
        assert run.stdout is not None
        url = run.stdout.readline().strip()
        assert is_listening(url)
        run.send_signal(signal.SIGKILL)
    wait_until_refused(url)


def wait_until_refused(url: str) -> None:
    deadline = time.monotonic() + 10
    while is_listening(url):
        assert time.monotonic() < deadline, f"{url} still responds"
        time.sleep(0.02)
