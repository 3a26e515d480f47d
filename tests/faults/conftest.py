"""Fixtures for queues and tables behind a proxy that injects faults."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.contract.running import running_servers
from tests.faults.environment import FaultyEnvironment
from tests.faults.proxy import fault_proxy
from tests.integration.environment import MOTO, Environment, Servers

SEED = 20_261


@pytest.fixture(scope="session")
def moto_url(request: pytest.FixtureRequest) -> str:
    return running_servers(request.config).url("moto")


@pytest.fixture
async def faulty(moto_url: str) -> AsyncIterator[FaultyEnvironment]:
    """Yield an environment on moto that writes items one by one."""
    environment = Environment(moto_url, moto_url, MOTO)
    environment.create()
    async with (
        fault_proxy(moto_url, SEED) as queues,
        fault_proxy(moto_url, SEED + 1) as tables,
    ):
        yield FaultyEnvironment(environment, queues, tables)


@pytest.fixture(scope="session")
def real_urls(request: pytest.FixtureRequest) -> tuple[str, str]:
    servers = running_servers(request.config)
    return servers.url("fauxqs"), servers.url("dynamodb_local")


@pytest.fixture
async def faulty_batches(real_urls: tuple[str, str]) -> AsyncIterator[FaultyEnvironment]:
    """Yield an environment on real servers that writes 25 items per call."""
    environment = Environment(*real_urls, Servers("fauxqs", "dynamodb_local", "batch"))
    environment.create()
    sqs, dynamodb = real_urls
    async with fault_proxy(sqs, SEED) as queues, fault_proxy(dynamodb, SEED + 1) as tables:
        yield FaultyEnvironment(environment, queues, tables)
