"""State that a repair changes what it is told to, keeps all else, and tells what it changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import body, message, received_message
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
    letter = to_dead_letter(received_message(body=text, **changes), "invalid", "", dead_at=START)
    return received_message(body=letter.body, attributes=letter.attributes)


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
def test_a_value_is_json_where_it_is_and_text_where_not(
    text: str, path: tuple[str, ...], value: object
) -> None:
    assert parse_assignment(text) == Assignment(path, value)


@pytest.mark.parametrize("text", ["", "user_id", "=x", "a..b=1", ".a=1"])
def test_what_is_no_assignment_is_told(text: str) -> None:
    with pytest.raises(UsageError, match="must be field=value"):
        parse_assignment(text)


def test_fields_are_set_and_everything_else_stays() -> None:
    letter = _dead(json.dumps({"detail": message(1, user_id=7), "é": "ü"}))
    repair = edit_fields([parse_assignment("detail.user_id=u-1"), parse_assignment("new=[1]")])
    mended = repair(letter)
    assert json.loads(mended.body) == {"detail": message(1, user_id="u-1"), "é": "ü", "new": [1]}
    assert changed_names(original(letter), mended) == ("detail.user_id", "new")
    assert "\\u" not in mended.body


def test_a_body_that_is_as_it_should_be_keeps_its_bytes() -> None:
    text = '{ "user_id" :\t"u-1" }'
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
def test_what_cannot_be_set_is_told(text: str, problem: str) -> None:
    with pytest.raises(EditError, match=problem):
        edit_fields([parse_assignment("data.user_id=u-1")])(_dead(text))


def test_a_field_is_set_in_a_body_with_a_byte_order_mark() -> None:
    mended = edit_fields([parse_assignment("user_id=u-1")])(_dead('\ufeff{"user_id": 7}'))
    assert mended.body == '{"user_id": "u-1"}'


def test_a_value_to_set_must_not_have_a_name_twice() -> None:
    with pytest.raises(UsageError, match=r"^--set data: a: duplicate name$"):
        parse_assignment('data={"a": 1, "a": 2}')


def test_what_a_file_has_is_sent_instead_but_the_count_of_replays_is_the_queues() -> None:
    letter = _dead(body(1), attributes=mark_replayed(OutgoingMessage(body(1)), START).attributes)
    edited = OutgoingMessage(
        body(2),
        attributes={
            "tenant": {"DataType": "String", "StringValue": "t"},
            REPLAYS_ATTRIBUTE: {"DataType": "String", "StringValue": '{"count": 0, "at": ""}'},
        },
        trace_header="Root=1-1-1",
    )
    wanted = replace_with_export({letter.message_id: edited})(letter)
    assert (wanted.body, wanted.trace_header) == (body(2), "Root=1-1-1")
    assert wanted.attributes["tenant"] == edited.attributes["tenant"]
    mark = wanted.attributes[REPLAYS_ATTRIBUTE]
    assert json.loads(mark["StringValue"])["count"] == 1
    names = ("event_id", "user_id", "attribute tenant", "trace header")
    assert changed_names(original(letter), wanted) == names
    with pytest.raises(EditError, match="but not its own id"):
        replace_with_export({})(letter)


@pytest.mark.parametrize(
    ("before", "after", "names"),
    [
        ('{"a": 1}', '{"a": 1}', ()),
        ('{"a": 1}', '{"a":1}', ("body",)),
        ('{"a": 1}', '{"a": true}', ("a",)),
        ('{"a": 1}', '{"a": 1.0}', ("a",)),
        ('{"a": {"b": 1, "c": 2}}', '{"a": {"c": 3}}', ("a.b", "a.c")),
        ("{", '{"a": 1}', ("body",)),
        ('{"secret": "x"}', "[]", ("body",)),
    ],
)
def test_what_changed_is_named_and_no_value_told(
    before: str, after: str, names: tuple[str, ...]
) -> None:
    assert changed_names(OutgoingMessage(before), OutgoingMessage(after)) == names
