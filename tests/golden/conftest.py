"""The option that writes golden files anew, and the comparison for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import boto3
import botocore.session
import certifi
import pytest
from botocore.loaders import create_loader

from tests.golden.golden import Golden
from tests.golden.verbs import Verbs
from tests.servers.launch import moto_in_process
from worker.operations.dead_letters import scan

# In one process all servers of moto share their state; no other test uses this region.
REGION: Final = "us-west-2"
_OPTION: Final = "--update-golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        _OPTION, action="store_true", help="write tests/golden/expected instead of comparing"
    )


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    # Without a path on the command line pytest loads this file too late to know the option.
    return Golden(update=request.config.getoption(_OPTION, default=False))


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Verbs:
    # Rich draws for the width of the terminal; without one, lines are as long as they need to be.
    monkeypatch.setenv("COLUMNS", "240")
    return Verbs(monkeypatch, capsys)


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto_in_process() as url:
        yield url


@pytest.fixture
def queues_and_tables(
    moto_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[str]:
    """Point the environment to an embedded AWS without queues and tables; yield its URL."""
    environment = {
        "AWS_ENDPOINT_URL": moto_url,
        "AWS_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AUP_WRITE_API": "put",
        "AUP_WAIT_SECONDS": "1",
        "AWS_CA_BUNDLE": str(_small_bundle(tmp_path)),
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    # Every verb has a session of its own; without this, each would read all of botocore's files.
    loader = create_loader()
    monkeypatch.setattr(botocore.session, "create_loader", lambda _: loader)
    # Nothing else sends to these queues, so there is nothing to wait for.
    monkeypatch.setattr(scan, "_POLL_SECONDS", 0)
    # A machine that runs tests under systemd or ECS is examined like any other.
    for name in ("NOTIFY_SOCKET", "ECS_CONTAINER_METADATA_URI_V4"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    # Exports without a name go to a directory below the current one.
    monkeypatch.chdir(tmp_path)
    yield moto_url
    _remove_all(moto_url)


def _remove_all(url: str) -> None:
    session = boto3.Session(region_name=REGION)
    sqs, dynamodb = (session.client(name, endpoint_url=url) for name in ("sqs", "dynamodb"))
    for queue_url in sqs.list_queues().get("QueueUrls", []):
        sqs.delete_queue(QueueUrl=queue_url)
    for name in dynamodb.list_tables()["TableNames"]:
        dynamodb.delete_table(TableName=name)


def _small_bundle(directory: Path) -> Path:
    """Write a file with one certificate: it is read for every client, though none is needed."""
    end = "-----END CERTIFICATE-----\n"
    path = directory / "authority.pem"
    path.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end)
    return path
