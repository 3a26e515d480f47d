"""One recorder a test, the SDK's clock at a standstill, and no waiting between attempts."""

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
def _standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    def now(remove_tzinfo: bool = True) -> datetime:
        return NOW.replace(tzinfo=None) if remove_tzinfo else NOW

    at_once: Callable[..., Any] = lambda *_: 0.0  # noqa: E731 - a lambda says it all
    monkeypatch.setattr(botocore.auth, "get_current_datetime", now)
    monkeypatch.setattr(ExponentialBackoff, "delay_amount", at_once)
