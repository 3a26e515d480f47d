"""An edit changes the given fields, keeps everything else, and reports what it changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, body, message, received_message
from worker.domain.dead_letter import REPLAYS_ATTRIBUTE, mark_replayed, original, to_dead_letter
from worker.domain.message import OutgoingMessage, ReceivedMessage
from worker.errors import EditError, UsageError
from worker.operations.dead_letters.edit import (
    Assignment,
    changed_names,
    edit_fields,
    parse_assignment,
    replace_with_export,
)


def _dead(text: str, **changes: Any) -> ReceivedMessage:
    dead_letter = to_dead_letter(
        received_message(body=text, **changes), "invalid", "", dead_at=START
    )
    return received_message(body=dead_letter.body, attributes=dead_letter.attributes)


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("user_id=u-42", ("user_id",), "u-42"),
        ("version=2", ("version",), "2"),
        ("data.version=true", ("data", "version"), "true"),
        ("meta.version=2", ("meta", "version"), 2),
        ("count=2", ("count",), 2),
        ("user_id=null", ("user_id",), "null"),
        ('version="2"', ("version",), "2"),
        ("on_behalf_of=null", ("on_behalf_of",), None),
        ("data.method=a=b", ("data", "method"), "a=b"),
        ("note=", ("note",), ""),
        ("weight=NaN", ("weight",), "NaN"),
        ("weight=1e999", ("weight",), "1e999"),
    ],
)
def test_value_is_json_if_the_field_allows_it_and_text_otherwise(
    text: str, path: tuple[str, ...], value: object
) -> None:
    assert parse_assignment(text) == Assignment(path, value)


@pytest.mark.parametrize("text", ["", "user_id", "=x", "a..b=1", ".a=1"])
def test_invalid_assignment_is_rejected(text: str) -> None:
    with pytest.raises(UsageError, match="must be field=value"):
        parse_assignment(text)


def test_edit_sets_fields_and_keeps_everything_else() -> None:
    dead_letter = _dead(json.dumps({"detail": message(1, user_id=7), "é": "ü"}))
    edit = edit_fields([parse_assignment("detail.user_id=u-1"), parse_assignment('new=["ö"]')])
    edited_message = edit(dead_letter)
    assert json.loads(edited_message.body) == {
        "detail": message(1, user_id="u-1"),
        "é": "ü",
        "new": ["ö"],
    }
    assert changed_names(original(dead_letter), edited_message) == ("detail.user_id", "new")
    assert "ö" in edited_message.body


def test_edit_keeps_other_values_as_they_are_written() -> None:
    numbers = '"a": [1.10, 1E5, -0], "b":{"c" : 12345678901234567890.123456789}, "d": "\\u00fc\\/"'
    text = f'{{"user_id": 7, "data": {{"user_id": 7, {numbers}}}, {numbers}}}'
    edited_message = edit_fields([parse_assignment("data.user_id=u-1")])(_dead(text))
    set_in_data = text.replace('{"user_id": 7, "a"', '{"user_id": "u-1", "a"')
    assert edited_message.body == set_in_data.replace('"b":{', '"b": {')


def test_unchanged_body_keeps_its_bytes() -> None:
    text = '{ "user_id" :\t"\\u0075-1" }'
    assert edit_fields([parse_assignment("user_id=u-1")])(_dead(text)).body == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "the body is not JSON"),
        ("[1]", "is not a JSON object"),
        ('{"a": NaN}', "the body is not JSON"),
        ('{"user_id": 1, "user_id": 2}', r"the body is ambiguous \(user_id: duplicate name\)"),
        ('{"data": {"user_id": 1, "user\\u005fid": 2}}', "the body is ambiguous"),
        ('{"data": "text"}', "data is not an object in the body"),
    ],
)
def test_body_that_cannot_be_edited_is_rejected(text: str, problem: str) -> None:
    with pytest.raises(EditError, match=problem):
        edit_fields([parse_assignment("data.user_id=u-1")])(_dead(text))


def test_body_with_a_byte_order_mark_can_be_edited() -> None:
    edited_message = edit_fields([parse_assignment("user_id=u-1")])(_dead('\ufeff{"user_id": 7}'))
    assert edited_message.body == '{"user_id": "u-1"}'


def test_value_with_a_duplicate_name_is_rejected() -> None:
    with pytest.raises(UsageError, match=r"^--set data: a: duplicate name$"):
        parse_assignment('data={"a": 1, "a": 2}')


def test_exported_message_is_sent_with_the_replay_count_of_the_queue() -> None:
    dead_letter = _dead(
        body(1), attributes=mark_replayed(OutgoingMessage(body(1)), START, ORIGIN).attributes
    )
    edited = OutgoingMessage(
        body(2),
        attributes={
            "tenant": {"DataType": "String", "StringValue": "t"},
            REPLAYS_ATTRIBUTE: {"DataType": "String", "StringValue": '{"count": 0, "at": ""}'},
        },
        trace_header="Root=1-1-1",
    )
    wanted = replace_with_export({dead_letter.message_id: edited})(dead_letter)
    assert (wanted.body, wanted.trace_header) == (body(2), "Root=1-1-1")
    assert wanted.attributes["tenant"] == edited.attributes["tenant"]
    mark = wanted.attributes[REPLAYS_ATTRIBUTE]
    assert json.loads(mark["StringValue"])["count"] == 1
    names = ("event_id", "user_id", "attribute tenant", "trace header")
    assert changed_names(original(dead_letter), wanted) == names
    with pytest.raises(EditError, match="but not its own id"):
        replace_with_export({})(dead_letter)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ('{"a": 1}', '{"a": 1}', ()),
        ('{"a": 1}', '{"a":1}', ("body",)),
        ('{"a": 1}', '{"a": true}', ("a",)),
        ('{"a": 1}', '{"a": 1.0}', ("a",)),
        ('{"a": 1.10}', '{"a": 1.1}', ("a",)),
        ('{"a": [1]}', '{"a": ["1"]}', ("a",)),
        ('{"a": 0.10000000000000000001}', '{"a": 0.1}', ("a",)),
        ('{"a": {"b": 1, "c": 2}}', '{"a": {"c": 3}}', ("a.b", "a.c")),
        ("{", '{"a": 1}', ("body",)),
        ('{"secret": "x"}', "[]", ("body",)),
    ],
)
def test_changes_are_reported_by_name_without_values(
    before: str, after: str, names: tuple[str, ...]
) -> None:
    assert changed_names(OutgoingMessage(before), OutgoingMessage(after)) == names
