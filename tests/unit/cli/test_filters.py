"""State which dead letters the options choose, and that wrong options are told."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ABSENT, body, received_message
from worker.cli.filters import choice, moment
from worker.domain.dead_letter import to_dead_letter
from worker.errors import UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe


def _letter(text: str, *, reason: str = "invalid", attributes: Any = None) -> DeadLetter:
    sent = to_dead_letter(
        received_message(body=text, attributes=attributes or {}),
        reason,
        "user_id: blank",
        dead_at=START,
    )
    dead = received_message(9, body=sent.body, attributes=sent.attributes)
    return describe(dead, retention_seconds=60, now=START)


LETTER = _letter(body(7, note="Grüße"))


@pytest.mark.parametrize(
    ("options", "chosen"),
    [
        ({}, True),
        ({"ids": ["message-9"]}, True),
        ({"ids": ["message-0", "x"]}, True),
        ({"ids": ["message"]}, False),
        ({"reasons": ["conflict", "invalid"]}, True),
        ({"reasons": ["conflict"]}, False),
        ({"users": ["u-7"]}, True),
        ({"users": ["u-70"]}, False),
        ({"policies": ["acceptable-use"], "versions": ["2026-01"]}, True),
        ({"policies": ["acceptable-use"], "versions": ["2026-02"]}, False),
        ({"policies": ["other"]}, False),
        ({"since": "2026-11-22T10:00:00Z"}, True),
        ({"since": "2026-11-22T10:00:01Z"}, False),
        ({"until": "2026-11-22T11:00:01+01:00"}, True),
        ({"until": "2026-11-22T10:00:00Z"}, False),
        ({"grep": "event-[7]"}, True),
        ({"grep": "^user_id: bl"}, True),
        ({"grep": "worker_version"}, True),
        ({"grep": "nowhere"}, False),
    ],
)
def test_a_letter_is_chosen_by_all_that_is_asked(options: dict[str, Any], chosen: bool) -> None:
    assert choice(**options).matches(LETTER) is chosen


def test_binary_attributes_are_searched_too() -> None:
    letter = _letter("{}", attributes={"raw": {"DataType": "Binary", "BinaryValue": b"\xffneedle"}})
    assert choice(grep="needle").matches(letter)


def _envelopes(inner: str) -> list[str]:
    packed = base64.b64encode(inner.encode()).decode()
    return [
        inner,
        json.dumps({"specversion": "1.0", "data": json.loads(inner)}),
        json.dumps({"specversion": "1.0", "data_base64": packed}),
        json.dumps({"Type": "Notification", "TopicArn": "t", "Message": inner}),
        json.dumps({"detail-type": "x", "detail": json.loads(inner)}),
    ]


@pytest.mark.parametrize("text", _envelopes(body(3, accepted_at=ABSENT)))
def test_user_policy_and_version_are_found_in_every_envelope(text: str) -> None:
    letter = _letter(text)
    assert (letter.user_id, letter.policy_id, letter.version) == (
        "u-3", "acceptable-use", "2026-01"
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800", '{"user_id": null}', '{"user_id": []}'])
def test_a_body_that_cannot_tell_names_nobody(text: str) -> None:
    assert _letter(text).user_id is None
    assert not choice(users=["u-3"]).matches(_letter(text))


@pytest.mark.parametrize(
    ("value", "name"),
    [("7", "7"), ("true", None), ("9" * 400, None), ('"' + "x" * 300 + '"', "x" * 256)],
)
def test_what_is_no_name_is_shown_as_far_as_it_may_be(value: str, name: str | None) -> None:
    assert _letter(f'{{"user_id": {value}}}').user_id == name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("2h", 7200), ("1.5d", 129_600), ("1w", 604_800)],
)
def test_an_age_counts_from_now(text: str, seconds: int) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert moment("--since", text, now) == now - timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2026-11-22", "999999999w", "yesterday"])
def test_what_is_neither_time_nor_age_is_told(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until .*neither a time such as .* nor an age"):
        choice(until=text)


def test_a_wrong_pattern_is_told() -> None:
    with pytest.raises(UsageError, match=r"--grep \(: no regular expression: "):
        choice(grep="(")
