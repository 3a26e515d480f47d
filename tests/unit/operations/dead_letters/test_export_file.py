"""An export file contains complete dead letters, and invalid edits are rejected."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.virtual_clock import START
from tests.unit.fakes import received_message
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import OutgoingMessage
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.export_file import from_line, to_line


def _dead_letter(**changes: Any) -> DeadLetter:
    sent = to_dead_letter(received_message(**changes), "conflict", "why", dead_at=START)
    dead = received_message(
        9,
        body=sent.body,
        attributes=sent.attributes,
        trace_header=sent.trace_header,
        group_id=sent.group_id,
    )
    return describe(dead, retention_seconds=1_209_600, now=START + timedelta(hours=1))


def _fields(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = json.loads(to_line(_dead_letter())) | changes
    return {name: value for name, value in fields.items() if value is not ...}


def test_line_contains_the_ids_the_reason_and_the_unchanged_message() -> None:
    dead_letter = _dead_letter(trace_header="Root=1", group_id="g")
    fields, (message_id, message) = json.loads(line := to_line(dead_letter)), from_line(line)
    assert (fields["id"], message_id, fields["original_id"]) == ("message-9",) * 2 + ("message-0",)
    assert (fields["reason"], fields["detail"]) == ("conflict", "why")
    sent = dead_letter.message
    assert message == OutgoingMessage(sent.body, sent.attributes, "Root=1", "g")


# JSON joins a surrogate pair into one character.
_TEXT = st.text(st.characters(), max_size=40).map(
    lambda text: text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
)
_ATTRIBUTE = st.one_of(
    st.builds(lambda text: {"DataType": "String", "StringValue": text}, _TEXT),
    st.builds(lambda number: {"DataType": "Number", "StringValue": str(number)}, st.integers()),
    st.builds(lambda content: {"DataType": "Binary.x", "BinaryValue": content}, st.binary()),
)


@given(
    body=_TEXT,
    attributes=st.dictionaries(_TEXT, _ATTRIBUTE, max_size=10),
    trace_header=st.none() | _TEXT,
    group_id=st.none() | _TEXT,
)
def test_any_message_survives_a_round_trip(
    body: str, attributes: dict[str, Any], trace_header: str | None, group_id: str | None
) -> None:
    dead = received_message(
        body=body, attributes=attributes, trace_header=trace_header, group_id=group_id
    )
    line = to_line(describe(dead, retention_seconds=60, now=START))
    assert line.isascii()
    assert "\n" not in line
    assert from_line(line)[1] == OutgoingMessage(body, attributes, trace_header, group_id)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "not JSON: "),
        ("[" * 100_000, "not JSON: "),
        ("[]", "not a JSON object"),
        (json.dumps(_fields())[:-1] + ', "body": "another"}', "body: duplicate name"),
        (json.dumps(_fields(body=...)), "body: missing"),
        (json.dumps(_fields(body={"a": 1})), r"body: must be a string \(JSON written as"),
        (json.dumps(_fields(id=7)), "id: must be a string"),
        (json.dumps(_fields(group_id=7)), "group_id: must be a string"),
        (json.dumps(_fields(attributes=[])), "attributes: must be an object"),
        (json.dumps(_fields(attributes={"a": 1})), "attributes.a: must be an object"),
        (json.dumps(_fields(attributes={"a": {}})), "attributes.a.DataType: missing"),
        (
            json.dumps(_fields(attributes={"a": {"DataType": "String"}})),
            "attributes.a.StringValue: missing",
        ),
        (
            json.dumps(_fields(attributes={"a": {"DataType": "Binary", "Base64": "é"}})),
            "attributes.a.Base64: not base64",
        ),
    ],
)
def test_invalid_line_is_rejected_with_the_reason(line: str, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^{problem}"):
        from_line(line)
