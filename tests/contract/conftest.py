"""Lend every test a place of its own on the server that it is parametrised with."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator

import pytest

from tests.contract.queues import QUEUES, QueuePlace, QueueServer
from tests.contract.running import RunningServers, running_servers
from tests.contract.store import LEDGERS, AcceptanceStore, LedgerPlace
from worker.aws.sqs import Queue
from worker.repository import AUPRepository


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> RunningServers:
    return running_servers(request.config)


@pytest.fixture(autouse=True)
def _no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every client would read the whole CA bundle, 50 ms each, and none of them speaks TLS here.
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)


@pytest.fixture(params=LEDGERS)
def store(request: pytest.FixtureRequest) -> AcceptanceStore:
    store: AcceptanceStore = request.param
    return store


@pytest.fixture
async def empty_place(store: AcceptanceStore, servers: RunningServers) -> LedgerPlace:
    """Lend a place without any table."""
    return LedgerPlace(store, servers)


@pytest.fixture
async def place(empty_place: LedgerPlace) -> AsyncIterator[LedgerPlace]:
    """Lend a place with both tables."""
    await empty_place.make_tables()
    yield empty_place
    if empty_place.simulated is not None:
        empty_place.simulated.verify()


@pytest.fixture
async def repository(place: LedgerPlace) -> AsyncIterator[AUPRepository]:
    async with place.repository() as repository:
        yield repository


@pytest.fixture(params=QUEUES)
def queue_server(request: pytest.FixtureRequest) -> QueueServer:
    server: QueueServer = request.param
    return server


@pytest.fixture
async def empty_queue_place(queue_server: QueueServer, servers: RunningServers) -> QueuePlace:
    """Lend a place without any queue."""
    return QueuePlace(queue_server, servers)


@pytest.fixture
async def queue_place(empty_queue_place: QueuePlace) -> QueuePlace:
    """Lend a place with a queue and a dead-letter queue."""
    settings = empty_queue_place.settings()
    await empty_queue_place.make(settings.dead_letter_queue)
    await empty_queue_place.make(settings.queue)
    return empty_queue_place


@pytest.fixture
async def queues(queue_place: QueuePlace) -> AsyncIterator[tuple[Queue, Queue]]:
    async with queue_place.open() as opened:
        yield opened


@pytest.fixture
def queue(queues: tuple[Queue, Queue]) -> Queue:
    return queues[0]


@pytest.fixture
def dead_letters(queues: tuple[Queue, Queue]) -> Queue:
    return queues[1]
