"""The system clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from worker.runtime.clock import utc_now


def test_time_is_current_and_in_utc() -> None:
    before = datetime.now(UTC)
    now = utc_now()
    assert now.utcoffset() == timedelta(0)
    assert before <= now <= datetime.now(UTC)
