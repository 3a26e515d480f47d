"""Summaries of the service in the log."""

from __future__ import annotations

import structlog
from structlog.testing import capture_logs

from tests.unit.monitoring import FakePipeline, status_of
from worker.observability.summary import summaries


async def test_in_flight_counts_messages_and_not_the_slots_that_polls_reserve() -> None:
    """As in `status`, where SQS counts the messages that were received and not deleted."""
    structlog.reset_defaults()
    pipeline = FakePipeline()
    held, *polling = await pipeline.slots.reserve(3)
    held.fill(100)
    with capture_logs() as lines:
        async with summaries(status_of(pipeline)):
            pass
    (stopped,) = lines
    assert polling
    assert pipeline.slots.in_flight == 3
    assert stopped["in_flight"] == 1
