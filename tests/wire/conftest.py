"""A recorder for each test, a fixed clock of the SDK and no delay between attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import datetime
from typing import Any

import botocore.auth
import pytest
from botocore.retries.standard import ExponentialBackoff

from tests.wire.pair import NOW
from tests.wire.recorder import Recorder, recording


@pytest.fixture
async def recorder() -> AsyncIterator[Recorder]:
    async with recording() as running:
        yield running


@pytest.fixture(autouse=True)
def _fixed_clock_and_no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    def now(remove_tzinfo: bool = True) -> datetime:
        return NOW.replace(tzinfo=None) if remove_tzinfo else NOW

    no_delay: Callable[..., Any] = lambda *_: 0.0  # noqa: E731 - short enough
    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", no_delay)
