"""State that a dead letter is the original, byte for byte, with the reason beside it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulation.virtual_clock import START
from tests.unit.fakes import received_message
from worker import __version__
from worker.domain.dead_letter import (
    ATTRIBUTE,
    DETAIL_MAX_CHARACTERS,
    REPLAYS_ATTRIBUTE,
    Edit,
    Replays,
    mark_replayed,
    original,
    read,
    replays,
    to_dead_letter,
)
from worker.domain.message import MESSAGE_MAX_BYTES, OutgoingMessage, ReceivedMessage

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


def _bury(given: ReceivedMessage, reason: str = "invalid", detail: str = "user_id: missing") -> Any:
    letter = to_dead_letter(given, reason, detail, dead_at=START)
    assert len(letter.attributes) <= 10
    assert letter.size_bytes <= MESSAGE_MAX_BYTES
    assert letter.body == given.body
    assert (letter.trace_header, letter.group_id) == (given.trace_header, given.group_id)
    return letter


def _received(letter: OutgoingMessage) -> ReceivedMessage:
    return received_message(
        message_id="new id",
        body=letter.body,
        attributes=letter.attributes,
        trace_header=letter.trace_header,
        group_id=letter.group_id,
    )


def test_the_letter_says_why_what_and_when() -> None:
    given = received_message(receive_count=3)
    note = json.loads(_bury(given).attributes[ATTRIBUTE]["StringValue"])
    assert note == {
        "reason": "invalid",
        "detail": "user_id: missing",
        "message_id": "message-0",
        "sent_at": "2026-11-22T10:00:00.000+00:00",
        "receive_count": 3,
        "dead_at": "2026-11-22T10:00:00.000+00:00",
        "worker_version": __version__,
    }
    death = read(_received(_bury(given)))
    assert death is not None
    assert (death.reason, death.detail) == ("invalid", "user_id: missing")
    assert (death.message_id, death.receive_count) == ("message-0", 3)


@pytest.mark.parametrize("count", range(11))
def test_body_and_attributes_of_every_type_survive_the_round_trip(count: int) -> None:
    attributes = dict(list(TEN.items())[:count])
    given = received_message(
        body=' {"a" :\t1}\r\n é \U0001f600', attributes=attributes, trace_header="t", group_id="g"
    )
    restored = original(_received(_bury(given)))
    assert restored == OutgoingMessage(given.body, attributes, "t", "g")


def test_where_there_are_ten_attributes_the_smallest_is_folded_in() -> None:
    letter = _bury(received_message(attributes=TEN))
    assert len(letter.attributes) == 10
    assert set(TEN) - set(letter.attributes) == {"whole"}
    death = read(_received(letter))
    assert death is not None
    assert death.folded == {"whole": TEN["whole"]}


def test_ten_binary_attributes_survive_too() -> None:
    attributes = {
        f"b{number}": {"DataType": "Binary", "BinaryValue": bytes([number, 255])}
        for number in range(10)
    }
    given = received_message(attributes=attributes)
    assert original(_received(_bury(given))).attributes == attributes


def test_a_message_that_dies_again_has_the_new_reason_and_all_it_had() -> None:
    first = _received(_bury(received_message(attributes=TEN)))
    again = _received(_bury(first, "conflict", "recorded already"))
    death = read(again)
    assert death is not None
    assert (death.reason, death.detail) == ("conflict", "recorded already")
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
def test_near_the_size_limit_the_note_shrinks_and_the_original_stays(
    free_bytes: int, attributes: dict[str, Any]
) -> None:
    given = _filled(free_bytes, attributes)
    letter = _bury(given)
    assert original(_received(letter)) == OutgoingMessage(given.body, attributes)
    death = read(_received(letter))
    if free_bytes >= 400:
        assert death is not None
        assert death.detail == "user_id: missing"
    elif free_bytes >= 120:
        assert death is not None
        assert death.reason == "invalid"
    elif free_bytes == 0:
        assert death is None


def test_at_the_size_limit_a_stale_note_is_not_taken_for_the_new_one() -> None:
    first = _received(_bury(_filled(60, {}), "conflict", ""))
    assert read(first) is not None
    free_bytes = MESSAGE_MAX_BYTES - OutgoingMessage(first.body, first.attributes).size_bytes
    full = replace(first, body=first.body + "x" * free_bytes)
    death = read(_received(_bury(full, "invalid_and_long", "")))
    assert death is None or death.reason == "invalid_and_long"


@pytest.mark.parametrize("detail", ["x" * 5000, "\x07" * 5000, "\U0001f600" * 5000])
def test_a_long_detail_is_cut(detail: str) -> None:
    death = read(_received(_bury(received_message(), detail=detail)))
    assert death is not None
    assert 0 < len(death.detail) <= DETAIL_MAX_CHARACTERS


def test_the_detail_is_one_line() -> None:
    death = read(_received(_bury(received_message(), detail="event_id a\r\nb\u2028c is recorded")))
    assert death is not None
    assert len(death.detail.splitlines()) == 1


def test_the_note_is_plain_ascii_and_so_valid_in_an_attribute() -> None:
    assert (
        _bury(received_message(), detail="é\x00\u2028")
        .attributes[ATTRIBUTE]["StringValue"]
        .isascii()
    )


@pytest.mark.parametrize(
    "value",
    [
        "",
        "no JSON",
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
def test_a_note_that_others_wrote_is_no_note_and_breaks_nothing(value: str) -> None:
    given = received_message(attributes={ATTRIBUTE: {"DataType": "String", "StringValue": value}})
    assert read(given) is None
    assert original(given) == OutgoingMessage(given.body, {})
    assert read(_received(_bury(given))) is not None


def test_a_binary_note_is_no_note() -> None:
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
def test_whatever_the_message_was_it_is_restored(attributes: dict[str, Any], body: str) -> None:
    given = received_message(body=body, attributes=attributes)
    assert original(_received(_bury(given))) == OutgoingMessage(body, attributes)


EDIT = Edit("2026-11-22T10:00:00.000+00:00", "ada", ("user_id", "attribute kind"))


def test_each_replay_counts_one_more_through_every_death_and_keeps_the_edits() -> None:
    given = received_message(attributes=dict(list(TEN.items())[:3]))
    assert replays(given) == Replays()
    dead = _received(_bury(given))
    for count in range(1, 4):
        edit = EDIT if count == 2 else None
        sent = mark_replayed(original(dead), START, edit)
        assert ATTRIBUTE not in sent.attributes
        assert {name: sent.attributes[name] for name in given.attributes} == given.attributes
        dead = _received(_bury(_received(sent)))
        assert replays(dead).count == replays(sent).count == count
    assert replays(dead) == Replays(3, "2026-11-22T10:00:00.000+00:00", (EDIT,))


@pytest.mark.parametrize("count", range(11))
def test_a_replay_adds_its_mark_only_where_there_is_room_for_one_more_attribute(count: int) -> None:
    attributes = dict(list(TEN.items())[:count])
    sent = mark_replayed(
        original(_received(_bury(received_message(attributes=attributes)))), START, EDIT
    )
    assert len(sent.attributes) <= 10
    mark = sent.attributes.get(REPLAYS_ATTRIBUTE)
    assert {k: v for k, v in sent.attributes.items() if k != REPLAYS_ATTRIBUTE} == attributes
    assert (mark is None) == (count == 10)
    # Nine and the mark are ten: the note of the next death folds one of them, and it comes back.
    again = _received(_bury(_received(sent)))
    assert original(again).attributes == sent.attributes
    assert replays(again) == replays(sent)


@pytest.mark.parametrize("free_bytes", [0, 30, 60, 70, 90, 120, 150, 200, 250])
def test_near_the_size_limit_a_replay_leaves_out_the_edits_and_then_its_mark(
    free_bytes: int,
) -> None:
    sent = mark_replayed(original(_filled(free_bytes, {})), START, EDIT)
    assert sent.size_bytes <= MESSAGE_MAX_BYTES
    known = replays(sent)
    assert known.count == (1 if free_bytes >= 70 else 0)
    assert known.edits == ((EDIT,) if free_bytes >= 200 else ())


@pytest.mark.parametrize("free_bytes", [0, 1, 30, 60, 90, 150, 250, 400, 600])
def test_near_the_size_limit_a_death_leaves_out_edits_first_and_never_the_body(
    free_bytes: int,
) -> None:
    mark = mark_replayed(OutgoingMessage("x"), START, EDIT).attributes
    letter = _bury(_filled(free_bytes, dict(mark)))
    death, known = read(letter), replays(letter)
    assert death is not None
    assert death.reason == "invalid"
    assert (known.count, known.edits) == ((1, (EDIT,)) if free_bytes >= 250 else (1, ()))
    assert (death.detail != "") == (free_bytes >= 150)


def test_the_history_of_edits_stays_short() -> None:
    many = Edit("2026-11-22T10:00:00Z", "x" * 500, tuple(f"{n}" * 300 for n in range(50)))
    message = OutgoingMessage("x")
    for _ in range(30):
        message = mark_replayed(message, START, many)
    known = replays(message)
    assert (known.count, len(known.edits)) == (30, 10)
    assert known.edits[0].changed[-1] == "and 30 more"
    assert message.size_bytes < 40_000


@pytest.mark.parametrize(
    "value",
    ["", "x", "[]", "{}", '{"count": "many"}', '{"count": 1e999}', '{"count": 1, "edits": 1}',
     '{"count": 1, "edits": [{}]}', "[" * 100_000],
)  # fmt: skip
def test_a_mark_that_others_wrote_is_no_mark_and_is_replaced(value: str) -> None:
    given = OutgoingMessage("x", {REPLAYS_ATTRIBUTE: {"DataType": "String", "StringValue": value}})
    assert replays(given) == Replays()
    assert replays(mark_replayed(given, START)).count == 1


def test_dead_letter_shrinks_step_by_step_to_the_body_alone() -> None:
    attributes = {"tenant": {"DataType": "String", "StringValue": "t" * 300}}
    given = received_message(body="x" * 2000, attributes=attributes)
    detail = "user_id: " + "missing " * 50
    letters = [
        to_dead_letter(given, "invalid", detail, dead_at=START, max_bytes=limit)
        for limit in range(3400, 2000, -1)
    ]
    assert all(
        each.size_bytes <= limit for each, limit in zip(letters, range(3400, 2000, -1), strict=True)
    )
    assert {each.body for each in letters} == {given.body}
    forms: list[tuple[int | None, bool]] = []
    for each in letters:
        death = read(_received(each))
        form = (None if death is None else len(death.detail), "tenant" in each.attributes)
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


def test_dead_letter_whose_attributes_were_dropped_says_so() -> None:
    attributes = {"tenant": {"DataType": "String", "StringValue": "t" * 300}}
    given = received_message(body="x" * 2000, attributes=attributes)
    letter = to_dead_letter(given, "invalid", "user_id: missing", dead_at=START, max_bytes=2200)
    note = json.loads(letter.attributes[ATTRIBUTE]["StringValue"])
    assert note == {"reason": "invalid", "dropped_attributes": 1}


def test_body_beyond_the_limit_stays_whole_for_sqs_to_refuse() -> None:
    given = received_message(body="x" * 2000)
    letter = to_dead_letter(given, "invalid", "user_id: missing", dead_at=START, max_bytes=1024)
    assert letter == OutgoingMessage(given.body)
