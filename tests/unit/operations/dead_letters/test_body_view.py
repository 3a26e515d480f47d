"""A formatted body has each problem marked on its line."""

from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.virtual_clock import START
from tests.unit.fakes import message, received_message
from worker.domain.dead_letter import to_dead_letter
from worker.domain.envelope import decode
from worker.errors import RefusedError
from worker.operations.dead_letters.body_view import BodyPart, format_body
from worker.operations.dead_letters.dead_letter import UNEXPLAINED, describe


def _parts(body: str, reason: str = "", detail: str = "") -> list[BodyPart]:
    """Format a body; without a reason and a detail, use those that `decode` raises."""
    if not reason:
        with pytest.raises(RefusedError) as refused:
            decode(body, now=START, clock_skew_seconds=0)
        reason, detail = refused.value.reason.value, refused.value.detail
    dead = received_message(body=body)
    sent = to_dead_letter(dead, reason, detail, dead_at=START)
    dead_letter = describe(
        received_message(body=body, attributes=sent.attributes), retention_seconds=60, now=START
    )
    return format_body(dead_letter)


def _marks(part: BodyPart) -> list[tuple[str, str]]:
    return [(line.text.strip(), line.note) for line in part.lines if line.note]


def _small(**changes: Any) -> dict[str, Any]:
    names = ("event_id", "user_id", "policy_id", "version", "accepted_at")
    fields = {name: value for name, value in message(1).items() if name in names} | changes
    return {name: value for name, value in fields.items() if value is not None}


def test_json_is_indented_and_every_invalid_field_is_marked() -> None:
    [part] = _parts(json.dumps(_small(user_id=7, version=None, accepted_at="today")))
    assert part.path == ""
    assert [line.text for line in part.lines] == [
        "{",
        '  "event_id": "event-1",',
        '  "user_id": 7,',
        '  "policy_id": "acceptable-use",',
        '  "accepted_at": "today"',
        "}",
    ]
    assert _marks(part) == [
        ("{", "version: missing"),
        ('"user_id": 7,', "user_id: input should be a valid string"),
        (
            '"accepted_at": "today"',
            "accepted_at: must be an RFC 3339 time with an offset, such as 2026-11-22T10:00:00Z",
        ),
    ]


def test_numbers_names_and_nesting_keep_their_spelling() -> None:
    body = '{"a":[1.50,{"b":[],"c":{}},-1e400],"a":"é","big":' + "9" * 5000 + "}"
    [part] = _parts(body, "exhausted", "it failed in 8 receives")
    assert [line.text for line in part.lines] == [
        "{",
        '  "a": [',
        "    1.50,",
        "    {",
        '      "b": [],',
        '      "c": {}',
        "    },",
        "    -1e400",
        "  ],",
        '  "a": "é",',
        '  "big": ' + "9" * 5000,
        "}",
    ]
    assert _marks(part) == []


@pytest.mark.parametrize(
    ("body", "row", "column"),
    [
        ('{"é": x}', 0, 6),
        ('{"ééé": 1,\n"é": x}', 1, 5),
        ('{"a":\n "é', 1, 3),
        ("", 0, 0),
        ('{"é\n": "\ud800"}', 1, 4),
        ('{"a": NaN}', 0, 6),
    ],
)
def test_position_of_a_syntax_error_is_marked(body: str, row: int, column: int) -> None:
    [part] = _parts(body)
    assert "\n".join(line.text for line in part.lines) == body
    [found] = [(index, line.column) for index, line in enumerate(part.lines) if line.note]
    assert found == (row, column)


@pytest.mark.parametrize(
    ("reason", "field"),
    [
        ("unknown_policy", "version"),
        ("conflict", "event_id"),
        ("content_mismatch", "content_sha256"),
    ],
)
def test_field_rejected_by_the_repository_is_marked(reason: str, field: str) -> None:
    body = json.dumps({"detail-type": "x", "detail": _small(content_sha256="0" * 64)})
    [part] = _parts(body, reason, "why not")
    [(text, note)] = _marks(part)
    assert text.startswith(f'"{field}": ')
    assert note == "why not"


def test_problem_inside_json_text_of_an_envelope_is_marked_there() -> None:
    inner = json.dumps(_small(user_id=""))
    cloud = {"specversion": "1.0", "data_base64": base64.b64encode(inner.encode()).decode()}
    outer = {"Type": "Notification", "TopicArn": "t", "Message": json.dumps(cloud)}
    first, second, third = _parts(json.dumps(outer))
    assert (first.path, second.path, third.path) == ("", "Message", "Message.data_base64")
    assert _marks(first) == _marks(second) == []
    [(text, note)] = _marks(third)
    assert text == '"user_id": "",'
    assert note.startswith("Message.data_base64.user_id: ")
    outer["Message"] = '{"a":\n!}'
    first, second = _parts(json.dumps(outer))
    assert _marks(first) == []
    assert _marks(second) == [("!}", "expected value")]
    assert second.lines[1].column == 0


@pytest.mark.parametrize(
    ("body", "place", "text"),
    [
        ('{"user_id": "u-1", "x": {"a": 1}, "user_id": "u-2"}', "", '"user_id": "u-1",'),
        ('{"x": {"a": 1, "a": 2}}', "", '"a": 1,'),
        (json.dumps({"specversion": "1.0", "data": '{"x": {"a": 1, "a": 2}}'}), "data", '"a": 1,'),
    ],
)
def test_duplicate_name_is_marked_on_its_line(body: str, place: str, text: str) -> None:
    parts = _parts(body)
    assert parts[-1].path == place
    [(marked, note)] = _marks(parts[-1])
    assert marked == text
    assert note.endswith(": duplicate name")
    assert all(_marks(part) == [] for part in parts[:-1])


def test_hint_is_shown_where_parsing_failed() -> None:
    [part] = _parts("\ufeff<html>")
    [(text, note)] = _marks(part)
    assert (text, note) == ("<html>", "expected value (looks like HTML, send JSON)")
    assert part.lines[0].column == 0


@pytest.mark.parametrize(
    ("body", "note"),
    [
        ("[1]", "expected a JSON object, got an array"),
        ('{"specversion": "1.0"}', "data: missing; this CloudEvent holds nothing"),
        ("[" + "1," * 10_001 + "1]", "more than 10000 values"),
    ],
)
def test_problem_of_the_whole_body_is_marked_on_its_first_line(body: str, note: str) -> None:
    parts = _parts(body)
    assert parts[0].lines[0].note.startswith(note)


def test_envelope_text_that_is_not_an_acceptance_is_marked_as_a_whole() -> None:
    parts = _parts('{"Type": "Notification", "TopicArn": "t", "Message": "[]"}')
    assert [_marks(part) for part in parts] == [
        [('"Message": "[]"', "Message: expected a JSON object, got an array")]
    ]


def test_unexplained_dead_letter_has_no_marks() -> None:
    dead_letter = describe(received_message(), retention_seconds=60, now=START + timedelta(hours=1))
    assert dead_letter.reason == UNEXPLAINED
    assert not any(line.note for part in format_body(dead_letter) for line in part.lines)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=10,
)


@given(
    body=st.text() | _JSON.map(json.dumps),
    reason=st.sampled_from(["malformed", "invalid", "conflict", "unknown_policy", "later"]),
    detail=st.text() | st.from_regex(r"(\w+: )?not JSON: x at line \d+ column \d+") | st.just("a:"),
)
def test_any_body_and_detail_can_be_formatted(body: str, reason: str, detail: str) -> None:
    parts = _parts(body, reason, detail)
    shown = "\n".join(line.text for line in parts[0].lines)
    try:
        expected = json.loads(body)
    except ValueError:
        assert shown == body
    else:
        assert shown == body or json.loads(shown) == expected


def test_extreme_nesting_is_shown_unformatted() -> None:
    body = "[" * 100_000
    [part] = _parts(body, "malformed", "not JSON: recursion limit exceeded at line 1 column 201")
    assert part.lines[0].text == body
    assert part.lines[0].column == 200
