"""Origin of a message whose attributes any sender may have written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import TEXT, acceptance, received_message
from worker.domain.acceptance import parse_time
from worker.domain.dead_letter import (
    ATTRIBUTE,
    REPLAYS_ATTRIBUTE,
    mark_replayed,
    origin,
    original,
    replays,
)
from worker.domain.evidence import build_item, verify
from worker.domain.message import ReceivedMessage

_HISTORY = {"count": 1, "at": "2026-11-23T10:00:00.000+00:00", "message_id": "m-1"}


def _message(name: str, content: dict[str, Any]) -> ReceivedMessage:
    value = {"DataType": "String", "StringValue": json.dumps(content)}
    return received_message(attributes={name: value})


def _item(message: ReceivedMessage) -> dict[str, Any]:
    return build_item(acceptance(), TEXT, origin(message), recorded_at=START)


@pytest.mark.parametrize(
    "message",
    [
        _message(REPLAYS_ATTRIBUTE, {**_HISTORY, "sent_at": "0001-01-01T00:00:00+05:00"}),
        _message(REPLAYS_ATTRIBUTE, {**_HISTORY, "at": "9999-12-31T23:59:59-05:00"}),
        _message(ATTRIBUTE, {"reason": "invalid", "sent_at": "0001-01-01T00:00:00+05:00"}),
        _message(
            REPLAYS_ATTRIBUTE,
            {**_HISTORY, "message_id": "\udcff", "sent_at": "2026-11-22T10:00:00Z"},
        ),
        _message(
            ATTRIBUTE,
            {"reason": "", "message_id": "\ud800", "sent_at": "2026-11-22T10:00:00Z"},
        ),
        _message(
            REPLAYS_ATTRIBUTE,
            {**_HISTORY, "edits": [{"at": "\udcff", "by": "\udcff", "changed": ["\ud800"]}]},
        ),
    ],
)
def test_message_with_any_history_can_be_recorded(message: ReceivedMessage) -> None:
    assert verify(_item(message)) == []


def test_edit_by_an_operator_whose_name_is_not_unicode_is_kept() -> None:
    edits = [{"at": "2026-11-23T10:00:00Z", "by": "ev\udcff", "changed": ["user_id"]}]
    [edit] = origin(_message(REPLAYS_ATTRIBUTE, {**_HISTORY, "edits": edits})).edits
    assert (edit.by, edit.changed) == ("ev?", ("user_id",))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (REPLAYS_ATTRIBUTE, _HISTORY),
        (ATTRIBUTE, {"reason": "invalid"}),
    ],
)
def test_size_of_what_a_sender_states_is_limited(name: str, content: dict[str, Any]) -> None:
    long = f"2026-11-22T10:00:00.{'0' * 100_000}Z"
    parse_time.cache_clear()
    message = _message(name, {**content, "message_id": "x" * 100_000, "sent_at": long, "at": long})
    found = origin(message)
    assert (found.received_at, found.replayed_at) == (message.sent_at, None)
    # The cache of parsed times would hold thousands of them.
    assert parse_time.cache_info().currsize == 0
    message = _message(
        name,
        {**content, "message_id": "x" * 100_000, "sent_at": "2026-11-22T09:00:00Z"},
    )
    assert origin(message).message_id == "x" * 100


def test_times_of_any_offset_are_the_same_moment() -> None:
    message = _message(REPLAYS_ATTRIBUTE, {**_HISTORY, "sent_at": "2026-11-22T15:30:00+05:30"})
    assert origin(message).received_at == datetime(2026, 11, 22, 10, tzinfo=UTC)
    assert _item(message)["received_at"] == "2026-11-22T10:00:00.000Z"


def test_any_replay_count_can_be_replayed_again() -> None:
    message = _message(REPLAYS_ATTRIBUTE, _HISTORY)
    digits = message.attributes[REPLAYS_ATTRIBUTE]["StringValue"].replace("1", "9" * 4300, 1)
    message.attributes[REPLAYS_ATTRIBUTE]["StringValue"] = digits
    again = mark_replayed(original(message), START + timedelta(days=1), origin(message))
    assert replays(again).count > 1
