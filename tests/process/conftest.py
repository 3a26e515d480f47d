"""Fixtures: one server per test process, with separate queues and tables for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.running import RunningServers, running_servers
from tests.process.environment import Environment
from tests.servers.launch import moto


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def environment(moto_url: str, tmp_path: Path) -> Environment:
    environment = Environment(moto_url)
    environment.variables["XDG_STATE_HOME"] = str(tmp_path / "state")
    environment.set_up()
    return environment


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(params=["moto", pytest.param("fauxqs", marks=pytest.mark.servers)])
def deployment(request: pytest.FixtureRequest, tmp_path: Path) -> Environment:
    """Return an environment on moto, and another on fauxqs with DynamoDB Local."""
    if request.param == "moto":
        environment = Environment(request.getfixturevalue("moto_url"))
    else:
        servers: RunningServers = request.getfixturevalue("servers")
        environment = Environment(
            servers.url("fauxqs"), servers.url("dynamodb_local"), write_api="batch"
        )
    environment.variables["XDG_STATE_HOME"] = str(tmp_path / "state")
    environment.set_up()
    return environment
