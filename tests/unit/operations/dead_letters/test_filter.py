"""A filter matches dead letters that meet all of its conditions."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import body, received_message
from worker.domain.dead_letter import to_dead_letter
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.filter import DeadLetterFilter


def _dead_letter(text: str, attributes: dict[str, Any] | None = None) -> DeadLetter:
    original = received_message(body=text, attributes=attributes or {})
    sent = to_dead_letter(original, "invalid", "user_id: blank", dead_at=START)
    message = received_message(9, body=sent.body, attributes=sent.attributes)
    return describe(message, retention_seconds=60, now=START)


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, True),
        ({"ids": ["message-9"]}, True),
        ({"ids": ["message-0", "x"]}, True),
        ({"ids": ["message"]}, False),
        ({"reasons": ["conflict", "invalid"]}, True),
        ({"reasons": ["conflict"]}, False),
        ({"users": ["u-7"], "policies": ["acceptable-use"], "versions": ["2026-01"]}, True),
        ({"users": ["u-7"], "versions": ["2026-02"]}, False),
        ({"users": ["u-70"]}, False),
        ({"policies": ["other"]}, False),
        ({"since": START}, True),
        ({"since": START + timedelta(seconds=1)}, False),
        ({"until": START + timedelta(seconds=1)}, True),
        ({"until": START}, False),
        ({"limit": 0}, True),
    ],
)
def test_all_conditions_must_be_met(conditions: dict[str, Any], expected: bool) -> None:
    assert DeadLetterFilter(**conditions).matches(_dead_letter(body(7))) is expected


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("event-[7]", True),
        ("^user_id: bl", True),
        ("worker_version", True),
        ("needle", True),
        ("nowhere", False),
    ],
)
def test_pattern_is_searched_in_body_detail_and_attributes(pattern: str, expected: bool) -> None:
    attributes = {"raw": {"DataType": "Binary", "BinaryValue": b"\xffneedle"}}
    filters = DeadLetterFilter(grep=re.compile(pattern))
    assert filters.matches(_dead_letter(body(7), attributes)) is expected


def test_total_is_known_unless_only_a_scan_can_count() -> None:
    assert DeadLetterFilter().total(9) == 9
    assert DeadLetterFilter(limit=7).total(9) == 7
    assert DeadLetterFilter(limit=7).total(5) == 5
    assert DeadLetterFilter(ids=("a", "b")).total(9) == 2
    assert DeadLetterFilter(ids=("a", "b"), limit=1).total(9) == 1
    assert DeadLetterFilter(reasons=("invalid",), limit=7).total(9) is None
