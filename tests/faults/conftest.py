"""Fixtures for queues and tables behind a proxy that injects faults."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.environment import FaultyEnvironment
from tests.faults.proxy import fault_proxy
from tests.integration.environment import MOTO, Environment, Servers
from tests.servers.launch import dynamodb_local, fauxqs, moto_in_process

SEED = 20_261


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto_in_process() as url:
        yield url


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
def real_urls() -> Iterator[tuple[str, str]]:
    with fauxqs() as sqs, dynamodb_local() as dynamodb:
        yield sqs, dynamodb


@pytest.fixture
async def faulty_batches(real_urls: tuple[str, str]) -> AsyncIterator[FaultyEnvironment]:
    """Yield an environment on real servers that writes 25 items per call."""
    environment = Environment(*real_urls, Servers("fauxqs", "dynamodb_local", "batch"))
    environment.create()
    sqs, dynamodb = real_urls
    async with fault_proxy(sqs, SEED) as queues, fault_proxy(dynamodb, SEED + 1) as tables:
        yield FaultyEnvironment(environment, queues, tables)
