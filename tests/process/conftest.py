"""One server for all tests of a process, queues and tables for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.process.workplace import Workplace
from tests.servers.launch import moto


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    with moto() as url:
        yield url


@pytest.fixture
def workplace(moto_url: str) -> Workplace:
    place = Workplace(moto_url)
    place.set_up()
    return place
