"""One server for all tests of a process, queues and tables for each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import RunningServers, running_servers
from tests.process.workplace import Workplace
from tests.servers.launch import moto


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def workplace(moto_url: str, tmp_path: Path) -> Workplace:
    place = Workplace(moto_url)
    place.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    place.set_up()
    return place


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(params=["moto", pytest.param("fauxqs", marks=pytest.mark.servers)])
def operated(request: pytest.FixtureRequest, tmp_path: Path) -> Workplace:
    """Give a workplace on moto, and one on fauxqs with DynamoDB Local."""
    if request.param == "moto":
        place = Workplace(request.getfixturevalue("moto_url"))
    else:
        servers: RunningServers = request.getfixturevalue("servers")
        place = Workplace(servers.url("fauxqs"), servers.url("dynamodb_local"), write_api="batch")
    place.environment["XDG_STATE_HOME"] = str(tmp_path / "state")
    place.set_up()
    return place
