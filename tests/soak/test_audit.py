"""The account of a soak finds what it is there to find."""

from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from tests.soak.audit import Letter, Verdict, audit
from tests.soak.memory import Memory
from tests.soak.messages import Author, Sent

FACT: dict[str, Any] = {
    "event_id": "event-1",
    "user_id": "user-1",
    "policy_id": "aup",
    "version": "1",
    "later": 1,
}
KEPT: dict[str, Any] = {
    **{name: FACT[name] for name in ("event_id", "user_id", "policy_id", "version")},
    "policy_version": "aup#1",
    "extra": '{"later":1}',
    "record_id": "ab",
}
GOOD = Sent(1, json.dumps(FACT), fact=FACT)
HOPELESS = Sent(2, "{", reason="malformed")
FORGED = Sent(3, "{}", fact=FACT | {"channel": "forged"})
BURIED = Letter(2, "{", "malformed")


def test_what_is_recorded_once_or_dead_for_its_reason_is_accounted_for() -> None:
    verdict = audit([GOOD, GOOD, HOPELESS], [KEPT], [BURIED])
    assert verdict == Verdict(recorded=1, duplicates=1, dead=verdict.dead)
    assert verdict.dead == {"malformed": 1}
    assert verdict.holds


def test_a_second_letter_of_one_message_is_counted_and_borne() -> None:
    verdict = audit([HOPELESS], [], [BURIED, BURIED])
    assert verdict.dead_again == 1
    assert verdict.holds


def test_a_contradiction_must_be_a_dead_letter() -> None:
    conflict = Letter(3, "{}", "conflict")
    assert audit([GOOD, FORGED], [KEPT], [conflict]).holds
    assert len(audit([GOOD, FORGED], [KEPT], []).lost) == 1


def test_whichever_of_two_contradictions_came_first_is_the_record() -> None:
    forged = KEPT | {"channel": "forged"}
    assert audit([GOOD, FORGED], [forged], [Letter(1, GOOD.body, "conflict")]).holds


@pytest.mark.parametrize(
    ("items", "letters"),
    [([], []), ([], [Letter(1, GOOD.body, "unknown_policy")])],
)
def test_an_acceptance_that_is_not_recorded_is_lost(
    items: list[dict[str, Any]], letters: list[Letter]
) -> None:
    assert len(audit([GOOD], items, letters).lost) == 1


def test_a_hopeless_message_without_a_letter_is_lost() -> None:
    assert len(audit([HOPELESS], [], []).lost) == 1


def test_what_is_recorded_and_dead_is_doubled() -> None:
    letter = Letter(1, GOOD.body, "exhausted")
    assert len(audit([GOOD], [KEPT], [letter]).doubled) == 1


def test_one_event_under_two_keys_is_doubled() -> None:
    other = KEPT | {"policy_version": "aup#2"}
    assert audit([GOOD], [KEPT, other], []).doubled


@pytest.mark.parametrize("change", [{"extra": "{}"}, {"user_id": "user-2"}, {"channel": "web"}])
def test_an_item_that_nobody_stated_is_altered(change: dict[str, str]) -> None:
    assert audit([GOOD], [KEPT | change], []).altered


@pytest.mark.parametrize(
    "letter",
    [Letter(2, "{ ", "malformed"), Letter(None, "{", "malformed"), Letter(2, "{", "exhausted")],
)
def test_a_letter_that_is_not_the_message_is_altered(letter: Letter) -> None:
    assert audit([HOPELESS], [], [letter]).altered


def test_a_seed_gives_the_messages_and_each_kind_occurs() -> None:
    def written() -> list[Sent]:
        author = Author(Random(7))
        return [author.write() for _ in range(500)]

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
def test_drift_is_measured_from_after_the_warm_up(
    resident: Callable[[int], int], drift: float
) -> None:
    samples = [(float(second), resident(second)) for second in range(1001)]
    assert Memory(1, samples).figures()["rss_drift_percent"] == pytest.approx(drift, abs=1)
