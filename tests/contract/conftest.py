"""Fixtures: a separate environment for every test, on the server of its parameter."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.contract.queues import QUEUE_SERVERS, QueueEnvironment, QueueServer
from tests.contract.running import RunningServers, running_servers, share_servers
from tests.contract.store import STORE_VARIANTS, StoreEnvironment, StoreVariant
from worker.aws.sqs import Queue
from worker.repository import AUPRepository


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    share_servers(node)


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Each client would read the whole CA bundle in 50 ms, and no server here uses TLS.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(params=STORE_VARIANTS)
def store(request: pytest.FixtureRequest) -> StoreVariant:
    store: StoreVariant = request.param
    return store


@pytest.fixture
async def empty_environment(store: StoreVariant, servers: RunningServers) -> StoreEnvironment:
    """Return an environment without tables."""
    return StoreEnvironment(store, servers)


@pytest.fixture
async def environment(empty_environment: StoreEnvironment) -> AsyncIterator[StoreEnvironment]:
    """Yield an environment with both tables."""
    await empty_environment.create_tables()
    yield empty_environment
    if empty_environment.simulated is not None:
        empty_environment.simulated.verify()


@pytest.fixture
async def repository(environment: StoreEnvironment) -> AsyncIterator[AUPRepository]:
    async with environment.repository() as repository:
        yield repository


@pytest.fixture(params=QUEUE_SERVERS)
def queue_server(request: pytest.FixtureRequest) -> QueueServer:
    server: QueueServer = request.param
    return server


@pytest.fixture
async def empty_queue_environment(
    queue_server: QueueServer, servers: RunningServers
) -> QueueEnvironment:
    """Return an environment without queues."""
    return QueueEnvironment(queue_server, servers)


@pytest.fixture
async def queue_environment(empty_queue_environment: QueueEnvironment) -> QueueEnvironment:
    """Return an environment with a queue and a dead-letter queue."""
    settings = empty_queue_environment.settings()
    await empty_queue_environment.create_queue(settings.dead_letter_queue)
    await empty_queue_environment.create_queue(settings.queue)
    return empty_queue_environment


@pytest.fixture
async def queues(queue_environment: QueueEnvironment) -> AsyncIterator[tuple[Queue, Queue]]:
    async with queue_environment.open() as opened:
        yield opened


@pytest.fixture
def queue(queues: tuple[Queue, Queue]) -> Queue:
    return queues[0]


@pytest.fixture
def dead_letters(queues: tuple[Queue, Queue]) -> Queue:
    return queues[1]
