"""Status of a service before and while its pipeline runs."""

from __future__ import annotations

from tests.unit.monitoring import FakePipeline, FakeWatchdog, begin, status_of


async def test_status_has_defaults_before_the_pipeline_starts() -> None:
    status = status_of(None, queue="https://sqs.test/1/acceptances")
    assert (status.poll_age_seconds, status.polled_at) == (None, None)
    assert status.write_concurrency() == status.settings.aws.write_concurrency
    assert status.queue_name == "acceptances"
    assert (status.why_not_live(), status.why_not_ready()) == ([], ["starting"])
    status.stopping.set()
    assert status.why_not_ready() == ["draining"]


async def test_status_follows_the_pipeline() -> None:
    now = [100.0]
    pipeline = FakePipeline()
    status = status_of(pipeline, clock=lambda: now[0])
    pipeline.health.polled_at = 101.0
    now[0] = 105.0
    assert status.poll_age_seconds == 4.0
    assert status.write_concurrency() == 7
    assert (status.metrics, status.slots) == (pipeline.metrics, pipeline.slots)


async def test_start_succeeds_with_the_first_response_to_a_poll_for_good() -> None:
    pipeline = FakePipeline()
    status = status_of(None)
    assert status.why_not_started() == ["starting"]
    begin(status, pipeline)
    pipeline.health.not_ready = ["no poll has completed yet"]
    assert status.why_not_started() == ["no poll has completed yet"]
    pipeline.health.polled_at, pipeline.health.not_ready = 1.0, []
    assert status.why_not_started() == []
    pipeline.health.not_ready, pipeline.health.not_live = ["draining"], ["no poll completed"]
    assert status.why_not_started() == []


async def test_service_is_not_live_while_the_event_loop_is_blocked() -> None:
    watchdog = FakeWatchdog()
    status = status_of(FakePipeline(), watchdog, stall_seconds=10)
    watchdog.lag_seconds = 5.0
    assert status.why_not_live() == []
    watchdog.lag_seconds = 5.1
    assert status.why_not_live() == ["event loop blocked for 5.1 s"]
