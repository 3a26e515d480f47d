"""Tests that the audit of a soak test detects violations."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.soak.audit import AuditResult, DeadLetter, audit
from tests.soak.memory import Memory
from tests.soak.messages import MessageGenerator, SentMessage

FACT: dict[str, Any] = {
    "event_id": "event-1",
    "user_id": "user-1",
    "policy_id": "aup",
    "version": "1",
    "later": 1,
}
ITEM: dict[str, Any] = {
    **{name: FACT[name] for name in ("event_id", "user_id", "policy_id", "version")},
    "policy_version": "aup#1",
    "extra": '{"later":1}',
    "record_id": "ab",
}
VALID = SentMessage(1, json.dumps(FACT), fact=FACT)
UNRECORDABLE = SentMessage(2, "{", reason="malformed")
FORGED = SentMessage(3, "{}", fact=FACT | {"channel": "forged"})
DEAD_LETTER = DeadLetter(2, "{", "malformed")


def test_recorded_and_rightly_dead_lettered_messages_pass() -> None:
    result = audit([VALID, VALID, UNRECORDABLE], [ITEM], [DEAD_LETTER])
    assert result == AuditResult(recorded=1, duplicates=1, reasons=result.reasons)
    assert result.reasons == {"malformed": 1}
    assert result.is_ok


def test_second_dead_letter_of_a_message_is_counted_and_accepted() -> None:
    result = audit([UNRECORDABLE], [], [DEAD_LETTER, DEAD_LETTER])
    assert result.repeated_dead_letters == 1
    assert result.is_ok


def test_contradicting_message_must_be_dead_lettered() -> None:
    conflict = DeadLetter(3, "{}", "conflict")
    assert audit([VALID, FORGED], [ITEM], [conflict]).is_ok
    assert len(audit([VALID, FORGED], [ITEM], []).lost) == 1


def test_either_of_two_contradicting_messages_may_be_recorded() -> None:
    forged = ITEM | {"channel": "forged"}
    assert audit([VALID, FORGED], [forged], [DeadLetter(1, VALID.body, "conflict")]).is_ok


@pytest.mark.parametrize(
    ("items", "dead_letters"),
    [([], []), ([], [DeadLetter(1, VALID.body, "unknown_policy")])],
)
def test_unrecorded_acceptance_is_lost(
    items: list[dict[str, Any]], dead_letters: list[DeadLetter]
) -> None:
    assert len(audit([VALID], items, dead_letters).lost) == 1


def test_unrecordable_message_without_a_dead_letter_is_lost() -> None:
    assert len(audit([UNRECORDABLE], [], []).lost) == 1


def test_recorded_and_dead_lettered_message_is_duplicated() -> None:
    dead_letter = DeadLetter(1, VALID.body, "exhausted")
    assert len(audit([VALID], [ITEM], [dead_letter]).duplicated) == 1


def test_event_recorded_under_two_keys_is_duplicated() -> None:
    other = ITEM | {"policy_version": "aup#2"}
    assert audit([VALID], [ITEM, other], []).duplicated


@pytest.mark.parametrize("change", [{"extra": "{}"}, {"user_id": "user-2"}, {"channel": "web"}])
def test_item_with_content_that_was_never_sent_is_altered(change: dict[str, str]) -> None:
    assert audit([VALID], [ITEM | change], []).altered


@pytest.mark.parametrize(
    "dead_letter",
    [
        DeadLetter(2, "{ ", "malformed"),
        DeadLetter(None, "{", "malformed"),
        DeadLetter(2, "{", "exhausted"),
    ],
)
def test_dead_letter_that_differs_from_its_message_is_altered(dead_letter: DeadLetter) -> None:
    assert audit([UNRECORDABLE], [], [dead_letter]).altered


def test_messages_of_a_seed_are_repeatable_and_of_every_kind() -> None:
    def written() -> list[SentMessage]:
        generator = MessageGenerator(Random(7))
        return [generator.generate() for _ in range(500)]

    first = written()
    assert first == written()
    assert len({message.number for message in first}) == len(first)
    assert {message.reason for message in first} == {
        None, "malformed", "invalid", "unknown_policy", "content_mismatch",
    }  # fmt: skip
    events = [message.fact["event_id"] for message in first if message.fact]
    assert len(set(events)) < len(events)


@pytest.mark.parametrize(
    ("resident", "drift"), [(lambda _: 1000, 0.0), (lambda second: 1000 + second, 61.09)]
)
def test_memory_drift_is_measured_after_the_warm_up(
    resident: Callable[[int], int], drift: float
) -> None:
    samples = [(float(second), resident(second)) for second in range(1001)]
    assert Memory(1, samples).figures()["rss_drift_percent"] == pytest.approx(drift, abs=1)
