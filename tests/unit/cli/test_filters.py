"""Selection of dead letters by filter options, and errors of invalid options."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ABSENT, body, received_message
from worker.cli.filters import FilterOptions
from worker.domain.dead_letter import to_dead_letter
from worker.errors import UsageError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.filter_texts import parse_moment


def _dead_letter(text: str, *, reason: str = "invalid", attributes: Any = None) -> DeadLetter:
    sent = to_dead_letter(
        received_message(body=text, attributes=attributes or {}),
        reason,
        "user_id: blank",
        dead_at=START,
    )
    dead = received_message(9, body=sent.body, attributes=sent.attributes)
    return describe(dead, retention_seconds=60, now=START)


DEAD_LETTER = _dead_letter(body(7, note="Grüße"))


@pytest.mark.parametrize(
    ("options", "matches"),
    [
        ({}, True),
        ({"reason": ["conflict", "invalid"]}, True),
        ({"reason": ["conflict"]}, False),
        ({"user": ["u-7"]}, True),
        ({"user": ["u-70"]}, False),
        ({"policy": ["acceptable-use"], "version": ["2026-01"]}, True),
        ({"policy": ["acceptable-use"], "version": ["2026-02"]}, False),
        ({"policy": ["other"]}, False),
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
def test_dead_letter_must_match_every_option(options: dict[str, Any], matches: bool) -> None:
    selected = FilterOptions(**options).dead_letter_filter()
    assert selected.matches(DEAD_LETTER) is matches


@pytest.mark.parametrize(
    ("ids", "matches"),
    [([], True), (["message-9"], True), (["message-0", "x"], True), (["message"], False)],
)
def test_dead_letter_is_selected_by_its_id_or_the_original_id(
    ids: list[str], matches: bool
) -> None:
    assert FilterOptions().dead_letter_filter(ids).matches(DEAD_LETTER) is matches


def test_binary_attributes_are_searched() -> None:
    letter = _dead_letter(
        "{}", attributes={"raw": {"DataType": "Binary", "BinaryValue": b"\xffneedle"}}
    )
    assert FilterOptions(grep="needle").dead_letter_filter().matches(letter)


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
    letter = _dead_letter(text)
    assert (letter.user_id, letter.policy_id, letter.version) == (
        "u-3", "acceptable-use", "2026-01"
    )  # fmt: skip


@pytest.mark.parametrize("text", ["", "{", "[]", "\ud800", '{"user_id": null}', '{"user_id": []}'])
def test_body_without_a_readable_user_matches_no_user(text: str) -> None:
    assert _dead_letter(text).user_id is None
    assert not FilterOptions(user=["u-3"]).dead_letter_filter().matches(_dead_letter(text))


@pytest.mark.parametrize(
    ("value", "name"),
    [("7", "7"), ("true", None), ("9" * 400, None), ('"' + "x" * 300 + '"', "x" * 256)],
)
def test_invalid_user_id_is_shown_truncated_or_not_at_all(value: str, name: str | None) -> None:
    assert _dead_letter(f'{{"user_id": {value}}}').user_id == name


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("15min", 900), ("15m", 900), ("2h", 7200), ("1.5d", 129_600), ("1w", 604_800)],
)
def test_age_is_subtracted_from_now(text: str, seconds: int) -> None:
    now = datetime(2026, 11, 22, tzinfo=UTC)
    assert parse_moment("--since", text, now) == now - timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "2", "h", "-2h", "2026-11-22", "999999999w", "yesterday"])
def test_text_that_is_neither_time_nor_age_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match=r"--until .*expected a time such as .* or an age"):
        FilterOptions(until=text).dead_letter_filter()


def test_invalid_regular_expression_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"--grep \(: invalid regular expression: "):
        FilterOptions(grep="(").dead_letter_filter()
