"""Queues and tables for each test, on the servers that it is parametrised with."""

from __future__ import annotations

import ssl

import pytest

from tests.contract.running import RunningServers, running_servers
from tests.integration.environment import ENVIRONMENTS, Environment, Servers


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every client would read the whole CA bundle, 50 ms each, and none of them speaks TLS here.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(params=ENVIRONMENTS)
def environment(request: pytest.FixtureRequest, servers: RunningServers) -> Environment:
    chosen: Servers = request.param
    environment = Environment(servers.url(chosen.sqs), servers.url(chosen.dynamodb), chosen)
    environment.create()
    return environment
