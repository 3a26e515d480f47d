"""Options of a replay decide which message is sent for a dead letter."""

from __future__ import annotations

import json

import pytest

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, body, received_message
from worker.domain.dead_letter import mark_replayed, original, replays, to_dead_letter
from worker.domain.message import OutgoingMessage
from worker.errors import EditError
from worker.operations.dead_letters.dead_letter import DeadLetter, describe
from worker.operations.dead_letters.edit import edit_fields, parse_assignment
from worker.operations.dead_letters.journal import (
    Progress,
    SentDeadLetter,
    content_digest,
    digest,
)
from worker.operations.dead_letters.replay_options import ReplayOptions

_EDIT = edit_fields([parse_assignment("user_id=u-1")])


def _dead_letter(replay_count: int = 0, text: str = "") -> DeadLetter:
    plain = OutgoingMessage(text or body(7))
    for _ in range(replay_count):
        plain = mark_replayed(plain, START, ORIGIN)
    message = received_message(body=plain.body, attributes=plain.attributes)
    sent = to_dead_letter(message, "invalid", "", dead_at=START)
    dead = received_message(9, body=sent.body, attributes=sent.attributes)
    return describe(dead, retention_seconds=60, now=START)


@pytest.mark.parametrize(("replay_count", "is_skipped"), [(0, False), (1, False), (2, True)])
def test_dead_letter_replayed_too_often_is_skipped(replay_count: int, is_skipped: bool) -> None:
    dead_letter = _dead_letter(replay_count)
    assert bool(ReplayOptions(max_replays=2).skip_reason(dead_letter)) is is_skipped
    assert not ReplayOptions().skip_reason(dead_letter)


def test_message_without_edit_is_the_original_with_a_replay_mark() -> None:
    dead_letter = _dead_letter()
    message = ReplayOptions().prepare(dead_letter, START)
    assert message.body == dead_letter.message.body
    assert content_digest(message) == content_digest(original(dead_letter.message))
    assert (replays(message).count, replays(message).edits) == (1, ())


def test_edited_message_names_the_operator_and_the_changed_fields() -> None:
    message = ReplayOptions(edit=_EDIT, operator="alice").prepare(_dead_letter(), START)
    assert json.loads(message.body)["user_id"] == "u-1"
    [edit] = replays(message).edits
    assert (edit.by, edit.changed) == ("alice", ("user_id",))


def test_message_that_sqs_would_refuse_raises() -> None:
    with pytest.raises(EditError, match="the queue accepts at most 100"):
        ReplayOptions(max_bytes=100).prepare(_dead_letter(), START)


def test_message_counts_as_sent_only_with_the_same_edit() -> None:
    dead_letter = _dead_letter()
    content = content_digest(_EDIT(dead_letter.message))
    body_digest = digest(dead_letter.message.body)
    sent = SentDeadLetter("message-9", "message-0", body_digest, content, "arn:to")
    progress = Progress(outstanding={"message-9": sent}, to="arn:to")
    assert ReplayOptions(edit=_EDIT).was_sent(dead_letter, progress)
    assert not ReplayOptions().was_sent(dead_letter, progress)
    assert not ReplayOptions(edit=_EDIT).was_sent(dead_letter, Progress(to="arn:to"))


def test_message_that_cannot_be_edited_counts_as_not_sent() -> None:
    dead_letter = _dead_letter(text="{")
    sent = SentDeadLetter("message-9", "message-0", digest("{"), "any", "arn:to")
    progress = Progress(outstanding={"message-9": sent}, to="arn:to")
    assert not ReplayOptions(edit=_EDIT).was_sent(dead_letter, progress)
