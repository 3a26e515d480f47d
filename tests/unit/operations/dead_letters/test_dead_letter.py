"""A dead letter is described by its attribute, its body and the queue's retention period."""

from __future__ import annotations

from datetime import timedelta

from tests.simulation.virtual_clock import START
from tests.unit.fakes import received_message
from worker.domain.dead_letter import to_dead_letter
from worker.domain.message import ReceivedMessage
from worker.operations.dead_letters.dead_letter import UNEXPLAINED, DeadLetter, describe


def _describe(message: ReceivedMessage) -> DeadLetter:
    return describe(message, retention_seconds=1_209_600, now=START + timedelta(hours=1))


def test_summary_contains_reason_age_and_expiry() -> None:
    original = received_message(receive_count=4, sent_at=START - timedelta(days=1))
    sent = to_dead_letter(original, "conflict", "why", dead_at=START)
    dead_letter = _describe(received_message(9, body=sent.body, attributes=sent.attributes))
    assert (dead_letter.message_id, dead_letter.original_message_id) == ("message-9", "message-0")
    assert dead_letter.expires_at == START + timedelta(days=14)
    assert dead_letter.summary(START + timedelta(hours=1)) == {
        "id": "message-9",
        "original_id": "message-0",
        "reason": "conflict",
        "detail": "why",
        "sent_at": "2026-11-21T10:00:00+00:00",
        "age_seconds": 25 * 3600,
        "expires_at": "2026-12-06T10:00:00+00:00",
        "expires_in_seconds": 14 * 86_400 - 3600,
        "receive_count": 4,
        "user_id": "u-0",
        "policy_id": "acceptable-use",
        "version": "2026-01",
        "replays": 0,
    }


def test_reason_of_a_message_that_sqs_moved_is_found_in_its_body() -> None:
    assert _describe(received_message(body="{")).reason == "malformed"
    assert _describe(received_message(body="{}")).reason == "invalid"
    assert _describe(received_message()).reason == UNEXPLAINED


def test_copy_without_content_keeps_everything_but_body_and_attributes() -> None:
    sent = to_dead_letter(received_message(), "conflict", "why", dead_at=START)
    full = _describe(received_message(9, body=sent.body, attributes=sent.attributes))
    copy = full.without_content()
    assert (copy.message.body, copy.message.attributes) == ("", {})
    assert copy.summary(START) == full.summary(START)
