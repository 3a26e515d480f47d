"""Personal values are masked in every form of a body, and disclosed one by one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tests.private import PRIVATE
from tests.simulation.virtual_clock import START
from tests.unit.fakes import body, message, received_message
from worker.console.masking import MASK, TEXT, MaskedPart, mask_attributes, mask_body
from worker.domain.dead_letter import to_dead_letter
from worker.domain.envelope import decode
from worker.errors import RefusedError
from worker.operations.dead_letters.body_view import format_body
from worker.operations.dead_letters.dead_letter import describe


def _masked(text: str, *disclosed: str) -> list[MaskedPart]:
    try:
        decode(text, now=START, clock_skew_seconds=0)
        reason, detail = "exhausted", "it failed"
    except RefusedError as refused:
        reason, detail = refused.reason.value, refused.detail
    sent = to_dead_letter(received_message(body=text), reason, detail, dead_at=START)
    dead = received_message(body=text, attributes=sent.attributes)
    return mask_body(format_body(describe(dead, retention_seconds=60, now=START)), disclosed)


def _text(parts: list[MaskedPart]) -> str:
    return "\n".join(line.text for part in parts for line in part.lines)


_INNER = body(1, accepted_at=None)
_BODIES = {
    "plain": _INNER,
    "valid": body(1),
    "cut off": body(1)[:-2],
    "two values": json.dumps({**message(1)})[:-1] + ', "user_id": 1, "user_id": 2}',
    "cloudevent": json.dumps({"specversion": "1.0", "data": message(1, accepted_at=None)}),
    "cloudevent text": json.dumps({"specversion": "1.0", "data": _INNER}),
    "cloudevent base64": json.dumps(
        {"specversion": "1.0", "data_base64": base64.b64encode(_INNER.encode()).decode()}
    ),
    "sns": json.dumps({"Type": "Notification", "TopicArn": "t", "Message": _INNER}),
    "sns cut off": json.dumps({"Type": "Notification", "TopicArn": "t", "Message": _INNER[:-9]}),
    "sns in text": json.dumps({"x": json.dumps({"y": _INNER})}),
    "nested": json.dumps({**message(1), "session": {"id": PRIVATE["session_id"]}, "version": 1}),
    "unquoted": ", ".join(f"{name}={value!r}" for name, value in PRIVATE.items()),
}


@pytest.mark.parametrize("name", _BODIES)
def test_no_personal_value_is_shown_unasked(name: str) -> None:
    text = _text(_masked(_BODIES[name]))
    assert [each for each in PRIVATE.values() if each in text] == []
    assert MASK in text


def test_one_field_is_disclosed_at_a_time() -> None:
    parts = _masked(_INNER)
    fields = [line.field for line in parts[0].lines if line.field]
    assert fields == ["ip", "user_agent", "session_id"]
    text = _text(_masked(_INNER, "ip"))
    assert PRIVATE["ip"] in text
    assert PRIVATE["user_agent"] not in text
    assert PRIVATE["session_id"] not in text


def test_disclosed_field_of_an_envelope_has_the_name_of_its_path() -> None:
    parts = _masked(_BODIES["sns"])
    assert [part.path for part in parts] == ["", "Message"]
    assert '  "Message": (text below)' in [line.text for line in parts[0].lines]
    fields = [line.field for line in parts[1].lines if line.field]
    assert fields == ["Message.ip", "Message.user_agent", "Message.session_id"]
    assert PRIVATE["ip"] in _text(_masked(_BODIES["sns"], "Message.ip"))


def test_value_of_several_lines_is_masked_and_disclosed_as_a_whole() -> None:
    text = _text(_masked(_BODIES["nested"]))
    assert f'"session": {MASK}' in text
    assert '"id"' not in text
    assert PRIVATE["session_id"] in _text(_masked(_BODIES["nested"], "session"))


def test_text_without_fields_is_disclosed_as_a_whole() -> None:
    [part] = _masked(_BODIES["cut off"])
    assert {line.field for line in part.lines} == {TEXT}
    assert all(each in _text(_masked(_BODIES["cut off"], TEXT)) for each in PRIVATE.values())


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ('{"x": "203.0.113.7:80 or 2001:db8::1"', f'{{"x": "{MASK}:80 or {MASK}"'),
        ('{"version": "1.2.3.4567", "time": "10:20:30"', None),
        ('{"strip": "a", "tip": 1, "ip": null', f'{{"strip": "a", "tip": 1, "ip": {MASK}'),
    ],
)
def test_addresses_in_text_are_masked_and_other_text_is_not(text: str, shown: str | None) -> None:
    assert _text(_masked(text)) == (shown or text)


def test_mark_of_a_syntax_error_stays_below_its_character() -> None:
    [part] = _masked('{"ip": "203.0.113.7", "version": oops}')
    [line] = part.lines
    assert line.column is not None
    assert line.text[line.column :].startswith("oops")
    [part] = _masked('{"ip": oops}')
    assert part.lines[0].text == f'{{"ip": {MASK}}}'


def test_hostile_text_is_masked_in_bounded_time() -> None:
    for text in ('ip":' + "\\" * 500_000, "ip:" * 200_000, "1:" * 300_000, 'ip"' + " " * 500_000):
        assert _masked(text)


def test_attributes_are_masked_by_name_and_content() -> None:
    attributes: dict[str, Any] = {
        "Client-IP": {"DataType": "String", "StringValue": "x"},
        "hop": {"DataType": "String", "StringValue": "via 203.0.113.7"},
        "source": {"DataType": "String", "StringValue": "ios"},
        "raw": {"DataType": "Binary", "BinaryValue": b"\xff\x01"},
        "aup.dead_letter": {"DataType": "String", "StringValue": "{}"},
    }
    message = received_message(attributes=attributes)
    shown = {each.name: each.text for each in mask_attributes(message, ())}
    assert shown == {"Client-IP": MASK, "hop": MASK, "source": "ios", "raw": "ff01"}
    requested = mask_attributes(message, {"attribute hop"})
    assert {each.name: each.text for each in requested}["hop"] == "via 203.0.113.7"
