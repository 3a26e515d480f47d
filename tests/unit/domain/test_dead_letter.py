"""Dead letters: the unchanged message with a reason, and its replay history."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, received_message
from worker import __version__
from worker.domain.dead_letter import (
    ATTRIBUTE,
    DETAIL_MAX_CHARACTERS,
    REPLAYS_ATTRIBUTE,
    Replays,
    mark_replayed,
    origin,
    original,
    read,
    replays,
    to_dead_letter,
)
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage, ReceivedMessage
from worker.domain.origin import Edit, Origin
from worker.errors import EditError

TEN: dict[str, Any] = {
    "text": {"DataType": "String", "StringValue": "é" * 30},
    "typed": {"DataType": "String.uuid", "StringValue": "0193"},
    "count": {"DataType": "Number", "StringValue": "12.5000000"},
    "whole": {"DataType": "Number.int", "StringValue": "7"},
    "bytes": {"DataType": "Binary", "BinaryValue": b"\x00\xff\n"},
    "photo": {"DataType": "Binary.png", "BinaryValue": bytes(range(256))},
    **{
        f"more-{number}": {"DataType": "String", "StringValue": "x" * number}
        for number in range(30, 34)
    },
}


def _dead_letter(
    given: ReceivedMessage, reason: str = "invalid", detail: str = "user_id: missing"
) -> Any:
    dead_letter = to_dead_letter(given, reason, detail, dead_at=START)
    assert len(dead_letter.attributes) <= 10
    assert dead_letter.size_bytes <= MESSAGE_MAX_BYTES
    assert dead_letter.body == given.body
    assert (dead_letter.trace_header, dead_letter.group_id) == (given.trace_header, given.group_id)
    return dead_letter


def _received(dead_letter: OutgoingMessage) -> ReceivedMessage:
    return received_message(
        message_id="new id",
        body=dead_letter.body,
        attributes=dead_letter.attributes,
        trace_header=dead_letter.trace_header,
        group_id=dead_letter.group_id,
    )


def test_dead_letter_has_reason_message_and_times() -> None:
    given = received_message(receive_count=3)
    content = json.loads(_dead_letter(given).attributes[ATTRIBUTE]["StringValue"])
    assert content == {
        "reason": "invalid",
        "detail": "user_id: missing",
        "message_id": "message-0",
        "sent_at": "2026-11-22T10:00:00.000+00:00",
        "receive_count": 3,
        "dead_at": "2026-11-22T10:00:00.000+00:00",
        "worker_version": __version__,
    }
    info = read(_received(_dead_letter(given)))
    assert info is not None
    assert (info.reason, info.detail) == ("invalid", "user_id: missing")
    assert (info.message_id, info.receive_count) == ("message-0", 3)


@pytest.mark.parametrize("count", range(11))
def test_body_and_attributes_of_every_type_are_restored(count: int) -> None:
    attributes = dict(list(TEN.items())[:count])
    given = received_message(
        body=' {"a" :\t1}\r\n é \U0001f600', attributes=attributes, trace_header="t", group_id="g"
    )
    restored = original(_received(_dead_letter(given)))
    assert restored == OutgoingMessage(given.body, attributes, "t", "g")


def test_smallest_of_ten_attributes_is_moved_into_the_dead_letter_attribute() -> None:
    dead_letter = _dead_letter(received_message(attributes=TEN))
    assert len(dead_letter.attributes) == 10
    assert set(TEN) - set(dead_letter.attributes) == {"whole"}
    info = read(_received(dead_letter))
    assert info is not None
    assert info.moved_attributes == {"whole": TEN["whole"]}


def test_ten_binary_attributes_are_restored() -> None:
    attributes = {
        f"b{number}": {"DataType": "Binary", "BinaryValue": bytes([number, 255])}
        for number in range(10)
    }
    given = received_message(attributes=attributes)
    assert original(_received(_dead_letter(given))).attributes == attributes


def test_message_dead_lettered_again_has_the_new_reason_and_all_attributes() -> None:
    first = _received(_dead_letter(received_message(attributes=TEN)))
    again = _received(_dead_letter(first, "conflict", "recorded already"))
    info = read(again)
    assert info is not None
    assert (info.reason, info.detail) == ("conflict", "recorded already")
    assert original(again).attributes == TEN


def _filled(free_bytes: int, attributes: dict[str, Any]) -> ReceivedMessage:
    taken = OutgoingMessage("", attributes).size_bytes
    given = received_message(
        body="x" * (MESSAGE_MAX_BYTES - taken - free_bytes), attributes=attributes
    )
    assert OutgoingMessage(given.body, attributes).size_bytes == MESSAGE_MAX_BYTES - free_bytes
    return given


@pytest.mark.parametrize("attributes", [{}, TEN], ids=["none", "ten"])
@pytest.mark.parametrize("free_bytes", [0, 1, 10, 30, 60, 90, 120, 150, 200, 250, 300, 400])
def test_near_the_size_limit_the_info_is_reduced_and_the_message_is_kept(
    free_bytes: int, attributes: dict[str, Any]
) -> None:
    given = _filled(free_bytes, attributes)
    dead_letter = _dead_letter(given)
    assert original(_received(dead_letter)) == OutgoingMessage(given.body, attributes)
    info = read(_received(dead_letter))
    if free_bytes >= 400:
        assert info is not None
        assert info.detail == "user_id: missing"
    elif free_bytes >= 120:
        assert info is not None
        assert info.reason == "invalid"
    elif free_bytes == 0:
        assert info is None


def test_at_the_size_limit_an_earlier_reason_is_removed() -> None:
    first = _received(_dead_letter(_filled(60, {}), "conflict", ""))
    assert read(first) is not None
    free_bytes = MESSAGE_MAX_BYTES - OutgoingMessage(first.body, first.attributes).size_bytes
    full = structs.replace(first, body=first.body + "x" * free_bytes)
    info = read(_received(_dead_letter(full, "invalid_and_long", "")))
    assert info is None or info.reason == "invalid_and_long"


@pytest.mark.parametrize("detail", ["x" * 5000, "\x07" * 5000, "\U0001f600" * 5000])
def test_long_detail_is_truncated(detail: str) -> None:
    info = read(_received(_dead_letter(received_message(), detail=detail)))
    assert info is not None
    assert 0 < len(info.detail) <= DETAIL_MAX_CHARACTERS


def test_detail_is_one_line() -> None:
    info = read(
        _received(_dead_letter(received_message(), detail="event_id a\r\nb\u2028c is recorded"))
    )
    assert info is not None
    assert len(info.detail.splitlines()) == 1


def test_attribute_is_ascii() -> None:
    assert (
        _dead_letter(received_message(), detail="é\x00\u2028")
        .attributes[ATTRIBUTE]["StringValue"]
        .isascii()
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        '{"reason": "x", "receive_count": "many"}',
        '{"reason": "x", "receive_count": 1e999}',
        "[" * 100_000,
        '{"reason": "x", "attributes": []}',
        '{"reason": "x", "attributes": {"a": 1}}',
        '{"reason": "x", "attributes": {"a": {"DataType": "Binary", "Base64": "A"}}}',
    ],
)
def test_invalid_attribute_is_ignored(value: str) -> None:
    given = received_message(attributes={ATTRIBUTE: {"DataType": "String", "StringValue": value}})
    assert read(given) is None
    assert original(given) == OutgoingMessage(given.body, {})
    assert read(_received(_dead_letter(given))) is not None


def test_reason_of_another_program_is_short_and_can_be_encoded() -> None:
    value = json.dumps({"reason": "\ud800" + "x" * 5000})
    info = read(
        received_message(attributes={ATTRIBUTE: {"DataType": "String", "StringValue": value}})
    )
    assert info is not None
    assert info.reason == "?" + "x" * 99


def test_binary_attribute_is_ignored() -> None:
    given = received_message(attributes={ATTRIBUTE: {"DataType": "Binary", "BinaryValue": b"x"}})
    assert read(given) is None


_VALUES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
_ATTRIBUTE = st.one_of(
    st.builds(lambda text: {"DataType": "String", "StringValue": text}, _VALUES),
    st.builds(lambda number: {"DataType": "Number", "StringValue": str(number)}, st.integers()),
    st.builds(
        lambda content: {"DataType": "Binary", "BinaryValue": content}, st.binary(min_size=1)
    ),
)


@given(
    attributes=st.dictionaries(
        st.from_regex(r"[a-z_-]{1,20}", fullmatch=True), _ATTRIBUTE, max_size=10
    ),
    body=_VALUES,
)
def test_every_message_is_restored(attributes: dict[str, Any], body: str) -> None:
    given = received_message(body=body, attributes=attributes)
    assert original(_received(_dead_letter(given))) == OutgoingMessage(body, attributes)


EDIT = Edit("2026-11-22T10:00:00.000+00:00", "ada", ("user_id", "attribute kind"), "e" * 64)


def test_replay_count_and_edits_are_kept_across_dead_letters() -> None:
    given = received_message(attributes=dict(list(TEN.items())[:3]))
    assert replays(given) == Replays()
    dead = _received(_dead_letter(given))
    for count in range(1, 4):
        edit = EDIT if count == 2 else None
        sent = mark_replayed(original(dead), START, ORIGIN, edit)
        assert ATTRIBUTE not in sent.attributes
        assert {name: sent.attributes[name] for name in given.attributes} == given.attributes
        dead = _received(_dead_letter(_received(sent)))
        assert replays(dead).count == replays(sent).count == count
    at = "2026-11-22T10:00:00.000+00:00"
    assert replays(dead) == Replays(3, at, "message-0", at, (EDIT,))


@pytest.mark.parametrize("count", range(11))
def test_replay_history_takes_the_smallest_attribute_along_if_there_are_ten(count: int) -> None:
    attributes = dict(list(TEN.items())[:count])
    sent = mark_replayed(
        original(_received(_dead_letter(received_message(attributes=attributes)))),
        START,
        ORIGIN,
        EDIT,
    )
    assert len(sent.attributes) == min(count + 1, 10)
    moved = replays(sent).moved_attributes
    kept = {k: v for k, v in sent.attributes.items() if k != REPLAYS_ATTRIBUTE}
    assert {**kept, **moved} == attributes
    assert len(moved) == (count == 10)
    # Ten with the history: the next dead letter moves one of them, and it is restored.
    again = _received(_dead_letter(_received(sent)))
    assert original(again).attributes == sent.attributes
    assert replays(again) == replays(sent)
    # A second replay keeps what the first one moved.
    twice = mark_replayed(original(again), START, ORIGIN)
    assert replays(twice).moved_attributes == moved
    assert replays(twice).edits == (EDIT,)


@pytest.mark.parametrize("free_bytes", [0, 30, 250, 450])
def test_near_the_size_limit_a_replay_without_room_for_its_history_is_refused(
    free_bytes: int,
) -> None:
    sent = mark_replayed(original(_filled(free_bytes, {})), START, ORIGIN, EDIT)
    assert replays(sent).edits == (EDIT,)
    assert bool(sent.why_refused()) == (free_bytes < 450)


@pytest.mark.parametrize("free_bytes", [0, 1, 30, 60, 90, 150, 250, 400, 600])
def test_near_the_size_limit_a_dead_letter_keeps_the_body_and_the_replay_history(
    free_bytes: int,
) -> None:
    attribute = mark_replayed(OutgoingMessage("x"), START, ORIGIN, EDIT).attributes
    dead_letter = _dead_letter(_filled(free_bytes, dict(attribute)))
    assert replays(dead_letter).edits == (EDIT,)
    assert dead_letter.size_bytes <= MESSAGE_MAX_BYTES
    info = read(dead_letter)
    assert (info is not None and info.reason == "invalid") == (free_bytes >= 60)
    assert (info is not None and info.detail != "") == (free_bytes >= 250)


def test_dead_letter_without_room_for_the_replay_history_is_left_to_the_redrive_policy() -> None:
    attribute = mark_replayed(OutgoingMessage("x"), START, ORIGIN, EDIT).attributes
    given = _received(OutgoingMessage("x" * 1000, attribute))
    dead_letter = to_dead_letter(given, "invalid", "", dead_at=START, max_bytes=1100)
    assert dead_letter.size_bytes > 1100
    assert replays(dead_letter).edits == (EDIT,)


def test_eleventh_edit_is_refused() -> None:
    many = Edit("2026-11-22T10:00:00Z", "x" * 500, tuple(f"{n}" * 300 for n in range(50)))
    message = OutgoingMessage("x")
    for _ in range(10):
        message = mark_replayed(message, START, ORIGIN, many)
    history = replays(message)
    assert (history.count, len(history.edits)) == (10, 10)
    assert history.edits[0].changed[-1] == "and 30 more"
    assert message.size_bytes < 40_000
    with pytest.raises(EditError, match="edited 10 times already"):
        mark_replayed(message, START, ORIGIN, many)
    assert replays(mark_replayed(message, START, ORIGIN)).count == 11


def test_edits_of_several_replays_are_kept_in_order() -> None:
    message = OutgoingMessage("x")
    edits = [replace(EDIT, by=name, body_sha256=name[0] * 64) for name in ("ada", "bob", "eve")]
    for edit in edits:
        message = mark_replayed(message, START, ORIGIN, edit)
        message = original(_received(_dead_letter(_received(message))))
    assert replays(message).edits == tuple(edits)
    assert origin(_received(message)).body_sha256 == "a" * 64


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_origin_of_a_message_is_its_own() -> None:
    message = received_message(body="{}")
    assert origin(message) == Origin.at(START, "message-0", _sha256("{}"))
    with_attribute = structs.replace(message, attributes={"a": TEN["typed"]})
    assert origin(with_attribute) == origin(message)


def test_origin_is_kept_through_dead_letters_replays_and_edits() -> None:
    first = received_message(body="{}")
    expected = origin(first)
    dead = _again(_dead_letter(first), 1)
    assert origin(dead) == expected
    later = START + timedelta(days=1)
    replayed = _again(mark_replayed(original(dead), later, origin(dead)), 2)
    assert origin(replayed) == structs.replace(expected, replayed_at=later)
    dead = _again(_dead_letter(replayed), 3)
    edit = Edit(START.isoformat(), "eve", ("user_id",), _sha256("{}"))
    edited = mark_replayed(replace(original(dead), body="[]"), later, origin(dead), edit)
    found = origin(_again(_dead_letter(_again(edited, 4)), 5))
    assert found == structs.replace(expected, replayed_at=later, edits=(edit,))


def test_origin_of_a_message_that_an_earlier_release_edited_has_no_hash_of_the_body() -> None:
    edit = {"at": START.isoformat(), "by": "eve", "changed": ["user_id"]}
    content = {"count": 1, "at": START.isoformat(), "edits": [edit]}
    attribute = {"DataType": "String", "StringValue": json.dumps(content)}
    found = origin(received_message(attributes={REPLAYS_ATTRIBUTE: attribute}))
    assert (found.body_sha256, found.message_id) == ("", "message-0")
    assert [each.by for each in found.edits] == ["eve"]


@pytest.mark.parametrize("sha256", ["", "e" * 63, "E" * 64, "g" * 64, 7])
def test_hash_of_a_forged_history_is_ignored(sha256: object) -> None:
    edit = {"at": "", "by": "eve", "changed": [], "body_sha256": sha256}
    content = json.dumps({"count": 1, "edits": [edit] * 12, "sent_at": "x"})
    attribute = {"DataType": "String", "StringValue": content}
    found = origin(received_message(attributes={REPLAYS_ATTRIBUTE: attribute}))
    assert (found.body_sha256, len(found.edits)) == ("", 10)
    assert (found.received_at, found.replayed_at) == (START, None)


def _again(message: OutgoingMessage, number: int) -> ReceivedMessage:
    """Return a message as SQS delivers it later, under another id."""
    sent_ms = round((START + timedelta(hours=number)).timestamp() * 1000)
    return structs.replace(_received(message), message_id=f"message-{number}", sent_ms=sent_ms)


@pytest.mark.parametrize(
    "value",
    ["", "x", "[]", "{}", '{"count": "many"}', '{"count": 1e999}', '{"count": 1, "edits": 1}',
     '{"count": 1, "edits": [{}]}', "[" * 100_000],
)  # fmt: skip
def test_invalid_history_is_ignored_and_replaced(value: str) -> None:
    given = OutgoingMessage("x", {REPLAYS_ATTRIBUTE: {"DataType": "String", "StringValue": value}})
    assert replays(given) == Replays()
    assert replays(mark_replayed(given, START, ORIGIN)).count == 1


def test_dead_letter_is_reduced_in_steps_to_the_body_alone() -> None:
    attributes = {"tenant": {"DataType": "String", "StringValue": "t" * 300}}
    given = received_message(body="x" * 2000, attributes=attributes)
    detail = "user_id: " + "missing " * 50
    dead_letters = [
        to_dead_letter(given, "invalid", detail, dead_at=START, max_bytes=limit)
        for limit in range(3400, 2000, -1)
    ]
    assert all(
        each.size_bytes <= limit
        for each, limit in zip(dead_letters, range(3400, 2000, -1), strict=True)
    )
    assert {each.body for each in dead_letters} == {given.body}
    forms: list[tuple[int | None, bool]] = []
    for each in dead_letters:
        info = read(_received(each))
        form = (None if info is None else len(info.detail), "tenant" in each.attributes)
        if form not in forms[-1:]:
            forms.append(form)
    assert forms == [
        (len(" ".join(detail.split())), True),
        (60, True),
        (0, True),  # with the message's id and times, then with the bare reason
        (None, True),
        (0, False),
        (None, False),
    ]


def test_dead_letter_has_the_number_of_dropped_attributes() -> None:
    attributes = {"tenant": {"DataType": "String", "StringValue": "t" * 300}}
    given = received_message(body="x" * 2000, attributes=attributes)
    dead_letter = to_dead_letter(
        given, "invalid", "user_id: missing", dead_at=START, max_bytes=2200
    )
    content = json.loads(dead_letter.attributes[ATTRIBUTE]["StringValue"])
    assert content == {"reason": "invalid", "dropped_attributes": 1}


def test_body_above_the_limit_is_kept_complete() -> None:
    given = received_message(body="x" * 2000)
    dead_letter = to_dead_letter(
        given, "invalid", "user_id: missing", dead_at=START, max_bytes=1024
    )
    assert dead_letter == OutgoingMessage(given.body)
