"""Sentences about a record: who accepted what, when, how, from where, and its history."""

from __future__ import annotations

import pytest

from worker.operations.evidence.sentences import duration, edits, moment, sentences

RECORD = {
    "user_id": "u-42",
    "policy_id": "aup",
    "version": "7",
    "accepted_at": "2026-11-22T11:00:00+01:00",
    "received_at": "2026-11-22T10:00:01.000Z",
    "recorded_at": "2026-11-22T10:00:02.000Z",
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 seconds"),
        (0.4, "0 seconds"),
        (1, "1 second"),
        (59.6, "1 minute"),
        (301, "5 minutes 1 second"),
        (3661, "1 hour 1 minute"),
        (86_400, "1 day"),
        (86_459, "1 day"),
        (556_733, "6 days 10 hours"),
        (1_234 * 86_400 + 3600, "1,234 days 1 hour"),
    ],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_least_record_has_two_sentences() -> None:
    assert list(sentences(RECORD, "")) == [
        (
            "User u-42 accepted version 7 of the policy aup on 22 November 2026 at 10:00:00 UTC, "
            "as the application stated."
        ),
        (
            "Amazon SQS received it on 22 November 2026 at 10:00:01 UTC; it was recorded on "
            "22 November 2026 at 10:00:02 UTC."
        ),
    ]


def test_every_field_has_its_part() -> None:
    more = {
        "policy_locale": "es", "method": "clickwrap", "channel": "web", "ip": "203.0.113.0",
        "ip_reduced": "truncated", "user_agent_reduced": "omitted", "session_id": "s-1",
        "on_behalf_of": "Example GmbH", "message_id": "m-1",
        "replayed_at": "2026-11-23T10:00:00.000Z",
        "edits": '[{"at":"2026-11-23T09:00:00Z","by":"eve","changed":["user_id","version"]}]',
    }  # fmt: skip
    text = " ".join(sentences(RECORD | more, "Acceptable Use"))
    for part in (
        "the policy “Acceptable Use” (aup) on",
        "The text was shown in the language es.",
        "The user accepted by clickwrap through the channel web.",
        "The acceptance came from the IP address 203.0.113.0, in the session s-1.",
        "The IP address was shortened to its network when recorded.",
        "The name of the program was not recorded, as configured.",
        "The user acted on behalf of Example GmbH.",
        "as message m-1; an operator sent it again on 23 November 2026 at 10:00:00 UTC;",
        (
            "Before it was recorded, the message was edited by eve on 23 November 2026 at 09:00:00 "
            "UTC: user_id, version."
        ),
    ):
        assert part in text


@pytest.mark.parametrize(
    "value", ["{", "7", '[{"by":"eve"}]', "[7]", "[" * 100_000, '[{"by":"","at":"","changed":[7]}]']
)
def test_unreadable_edits_are_mentioned(value: str) -> None:
    assert edits({"edits": value}) == ["edited; the list of edits is not readable"]


@pytest.mark.parametrize("value", ["soon", "", "2026-11-22", 7])
def test_value_that_is_not_a_time_is_shown_as_it_is(value: object) -> None:
    assert moment(value) == str(value)
