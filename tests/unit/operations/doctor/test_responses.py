"""Reachability and clock offset from response headers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from worker.operations.doctor.responses import Responses

NOW = datetime(2026, 11, 22, 10, 0, 0, tzinfo=UTC)


def _responses(*ahead_seconds: float) -> Responses:
    responses = Responses(clock=NOW.timestamp)
    for seconds in ahead_seconds:
        stated = NOW - timedelta(seconds=seconds)
        responses.add("sqs", format_datetime(stated, usegmt=True))
    return responses


def test_clock_offset_is_the_median_over_all_responses() -> None:
    assert _responses().offset_seconds() is None
    assert _responses(0).offset_seconds() == pytest.approx(0, abs=0.5)
    assert _responses(100, 100, 160).offset_seconds() == pytest.approx(100, abs=0.5)
    assert _responses(-3600).offset_seconds() == pytest.approx(-3600, abs=0.5)


def test_response_without_a_valid_date_counts_as_a_response() -> None:
    responses = Responses()
    responses.add("dynamodb", "yesterday")
    responses.add("sqs", "")
    assert (responses.services, responses.offset_seconds()) == ({"dynamodb", "sqs"}, None)
