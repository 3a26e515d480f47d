"""Tests of the rule of what may be recorded, and that the dry run and the pipeline share it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.simulation.virtual_clock import START, simulated
from tests.unit.fakes import (
    ABSENT,
    TEXT,
    TEXT_SHA256,
    FakeAcceptanceStore,
    acceptance,
    body,
    clock,
    policy,
    received_message,
    service_state,
    settings,
)
from worker.domain import admission
from worker.domain.outcome import Outcome
from worker.domain.policy import Policy, PolicyText
from worker.errors import FutureError, Reason, RefusedError
from worker.operations.dead_letters.dry_run import SUCCEEDS, DryRun
from worker.pipeline.decode import decode
from worker.pipeline.record import Recorder

LATE = (START + timedelta(seconds=400)).isoformat()


def test_the_latest_clock_decides_what_is_in_the_future() -> None:
    text = body(accepted_at=LATE)
    hour = timedelta(hours=1)
    with pytest.raises(FutureError):
        admission.read(text, [START, START - hour], clock_skew_seconds=300)
    admission.read(text, [START - hour, START + hour], clock_skew_seconds=300)
    admission.read(text, [START], clock_skew_seconds=400)


def test_unpublished_version_is_refused() -> None:
    assert admission.admit(acceptance(), None) == Outcome.dead_lettered(
        Reason.UNKNOWN_POLICY, "policy acceptable-use has no published version 2026-01"
    )


def test_other_content_hash_than_published_is_refused() -> None:
    outcome = admission.admit(acceptance(content_sha256="0" * 64), policy())
    assert isinstance(outcome, Outcome)
    assert outcome.reason is Reason.CONTENT_MISMATCH
    assert outcome.detail == (
        f"content_sha256 is {'0' * 64}, but acceptable-use 2026-01 was published with {TEXT_SHA256}"
    )


@pytest.mark.parametrize("stated", [None, TEXT_SHA256, TEXT_SHA256.upper()])
def test_published_content_hash_is_optional_and_case_insensitive(stated: str | None) -> None:
    assert admission.admit(acceptance(content_sha256=stated), policy()) == TEXT


@pytest.mark.parametrize(
    "published",
    [
        policy(retired_at=START - timedelta(days=1)),
        policy(effective_at=START + timedelta(days=1)),
    ],
    ids=["retired", "not effective yet"],
)
def test_version_that_is_not_in_force_is_admitted(published: Policy) -> None:
    assert admission.admit(acceptance(), published) == TEXT


_SPANISH = PolicyText("1" * 64, "es")
_MEXICAN = PolicyText("2" * 64, "es-MX")


@pytest.mark.parametrize(
    ("locale", "stated", "expected"),
    [
        (ABSENT, ABSENT, TEXT),
        ("es", ABSENT, _SPANISH),
        ("es-MX", ABSENT, _MEXICAN),
        ("ES_mx", ABSENT, _MEXICAN),
        ("es-MX-x-web", ABSENT, _MEXICAN),
        ("es-MX-x-web-1", ABSENT, _MEXICAN),
        ("de-x-web", ABSENT, TEXT),  # RFC 4647: a single letter is no end of a tag
        ("x-de", ABSENT, TEXT),
        ("--", ABSENT, TEXT),
        ("es-", ABSENT, _SPANISH),
        ("es-ES", ABSENT, _SPANISH),
        ("fr", ABSENT, TEXT),
        ("", ABSENT, TEXT),
        ("-", ABSENT, TEXT),
        (ABSENT, "2" * 64, _MEXICAN),
        ("es", "2" * 64, _MEXICAN),
        ("es-MX", TEXT_SHA256, TEXT),
    ],
)
def test_acceptance_is_bound_to_the_text_that_it_states_by_hash_or_language(
    locale: object, stated: object, expected: PolicyText
) -> None:
    published = policy(texts=(_SPANISH, _MEXICAN, PolicyText("3" * 64, "de-x")))
    given = acceptance(locale=locale, content_sha256=stated)
    assert admission.admit(given, published) == expected


def test_text_in_the_stated_language_is_preferred_to_an_equal_text() -> None:
    same = PolicyText(TEXT_SHA256, "es")
    assert admission.admit(acceptance(locale="es"), policy(texts=(same,))) == same
    assert admission.admit(acceptance(locale="fr"), policy(texts=(same,))) == TEXT


@pytest.mark.parametrize(
    ("locale", "stated", "is_final"),
    [
        ("fr", "0" * 64, False),
        ("fr", "2" * 64, True),
        ("fr", ABSENT, False),
        ("es-AR", ABSENT, False),
        ("ES_mx", ABSENT, True),
        ("", ABSENT, True),
        (ABSENT, ABSENT, True),
    ],
)
def test_text_added_later_matters_to_an_unmatched_hash_or_language(
    locale: object, stated: object, *, is_final: bool
) -> None:
    given = acceptance(locale=locale, content_sha256=stated)
    admitted = admission.admit(given, policy(texts=(_SPANISH, _MEXICAN)))
    assert admission.is_final(given, admitted) is is_final


def test_hash_of_no_text_is_refused_with_the_number_of_texts() -> None:
    published = policy(texts=(_SPANISH, _MEXICAN))
    outcome = admission.admit(acceptance(content_sha256="0" * 64), published)
    assert isinstance(outcome, Outcome)
    assert outcome.detail.endswith(f"with {TEXT_SHA256} and 2 texts in other languages")


@pytest.mark.parametrize(
    ("waited_seconds", "receive_count", "delay"),
    [
        (0, 1, 5.0),
        (58, 1, 2.0),
        (61, 2, 0.0),
        (61, 3, None),
        (0, 8, None),
        (20.5, 7, 40.0),  # the rest of the time, in whole seconds
    ],
)
def test_wait_for_a_publication_ends_by_time_and_by_receives(
    waited_seconds: float, receive_count: int, delay: float | None
) -> None:
    found = admission.publication_delay(
        received_message(receive_count=receive_count),
        now=START + timedelta(seconds=waited_seconds),
        limit_seconds=60.0,
        max_attempts=8,
        backoff_seconds=5.0,
    )
    assert found == delay


async def _pipeline_verdict(text: str, store: FakeAcceptanceStore) -> str:
    """Return the reason with which the pipeline dead-letters a message at its last receive."""
    state = service_state(settings(max_attempts=1))
    message = received_message(body=text)
    try:
        acceptance = decode(message, state)
    except RefusedError as refused:
        return refused.reason.value
    if isinstance(acceptance, Outcome):
        return acceptance.detail
    outcome = await Recorder(store, state).record(acceptance, message)
    return SUCCEEDS if outcome.reason is None else outcome.reason.value


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (body(), SUCCEEDS),
        (body(content_sha256=ABSENT), SUCCEEDS),
        (body(content_sha256=TEXT_SHA256.upper()), SUCCEEDS),
        (body(content_sha256="0" * 64), "content_mismatch"),
        (body(version="2026-02"), "unknown_policy"),
        (body(version="2025-01"), SUCCEEDS),
        (body(version="2027-01"), SUCCEEDS),
        (body(accepted_at=LATE), "invalid"),
        (body(user_id=""), "invalid"),
        ("{", "malformed"),
    ],
)
@simulated
async def test_dry_run_and_pipeline_agree(text: str, verdict: str) -> None:
    store = FakeAcceptanceStore(
        policy(),
        policy("2025-01", retired_at=START - timedelta(days=1)),
        policy("2027-01", effective_at=START + timedelta(days=1)),
    )
    dry_run = DryRun(store.policy, clock_skew_seconds=settings().clock_skew_seconds, now=clock)
    assert (await dry_run.check(text)).code == verdict
    assert await _pipeline_verdict(text, store) == verdict
