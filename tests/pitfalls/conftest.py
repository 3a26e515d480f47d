"""Fixtures that make random delays repeatable and silence the log."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs


@pytest.fixture(autouse=True)
def _same_delays() -> Iterator[None]:
    state = random.getstate()
    random.seed(0)
    yield
    random.setstate(state)


@pytest.fixture(autouse=True)
def _silence() -> Iterator[None]:
    with capture_logs():
        yield
