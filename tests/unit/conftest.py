"""Unit tests draw the same delays and the same examples in every run."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest
from hypothesis import settings

# Derandomized, and without a deadline: a busy machine is no failure.
settings.register_profile("steady", derandomize=True, deadline=None, database=None, max_examples=60)
settings.load_profile("steady")


@pytest.fixture(autouse=True)
def _same_delays() -> Iterator[None]:
    state = random.getstate()
    random.seed(0)
    yield
    random.setstate(state)


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
