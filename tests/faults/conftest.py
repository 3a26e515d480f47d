"""Lend every test queues and tables of its own behind a proxy that fails."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.faults.place import FaultyPlace
from tests.faults.proxy import faults_before
from tests.integration.place import MOTO, Place, Servers
from tests.servers.launch import dynamodb_local, fauxqs, moto_in_process

SEED = 20_261


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto_in_process() as url:
        yield url


@pytest.fixture
async def faulty(moto_url: str) -> AsyncIterator[FaultyPlace]:
    """A place on moto, whose items are put one by one."""
    place = Place(moto_url, moto_url, MOTO)
    place.make()
    async with (
        faults_before(moto_url, SEED) as queues,
        faults_before(moto_url, SEED + 1) as tables,
    ):
        yield FaultyPlace(place, queues, tables)


@pytest.fixture(scope="session")
def real_urls() -> Iterator[tuple[str, str]]:
    with fauxqs() as sqs, dynamodb_local() as dynamodb:
        yield sqs, dynamodb


@pytest.fixture
async def faulty_batches(real_urls: tuple[str, str]) -> AsyncIterator[FaultyPlace]:
    """A place whose items are inserted 25 at a time."""
    place = Place(*real_urls, Servers("fauxqs", "dynamodb_local", "batch"))
    place.make()
    sqs, dynamodb = real_urls
    async with faults_before(sqs, SEED) as queues, faults_before(dynamodb, SEED + 1) as tables:
        yield FaultyPlace(place, queues, tables)
