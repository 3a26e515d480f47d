"""Verification of records: contradictions produce remarks and leave the record sound."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from msgspec.structs import replace

from tests.simulation.virtual_clock import START
from tests.unit.fakes import ORIGIN, TEXT, acceptance, policy
from worker.domain.evidence import build_item
from worker.domain.origin import Edit
from worker.domain.policy import Policy, PolicyText
from worker.domain.text_content import TextContent
from worker.operations.evidence.verification import (
    TextCheck,
    Verdict,
    accepted_sha256,
    verify_record,
)

DAY = 86_400
CONTENT = TextContent(b"Be kind.", "text/plain")


def _item(received_seconds: float = 0.0, recorded_seconds: float = 0.0) -> dict[str, Any]:
    return build_item(
        acceptance(accepted_at=START.isoformat()),
        TEXT,
        replace(ORIGIN, received_at=START + timedelta(seconds=received_seconds)),
        recorded_at=START + timedelta(seconds=received_seconds + recorded_seconds),
    )


def _remarks(
    received_seconds: float, recorded_seconds: float, tolerance_seconds: float = 300.0
) -> list[str]:
    item = _item(received_seconds, recorded_seconds)
    verification = verify_record(item, policy(), tolerance_seconds, CONTENT)
    assert verification.sound  # the user did accept
    assert verification.result()["remarks"] == verification.remarks
    assert (verification.verdict is Verdict.SOUND) == (not verification.remarks)
    return verification.remarks


@pytest.mark.parametrize(
    ("received_seconds", "recorded_seconds"),
    [(0, 0), (-300, 0), (0, -300), (90 * DAY, 0), (0, 14 * DAY), (-300, -300)],
)
def test_times_within_the_tolerance_have_no_remark(
    received_seconds: float, recorded_seconds: float
) -> None:
    assert _remarks(received_seconds, recorded_seconds) == []


def test_each_contradiction_has_a_remark() -> None:
    assert _remarks(-301, 0) == ["received_at is 301 s before accepted_at: a clock was wrong"]
    assert _remarks(0, -301) == ["recorded_at is 301 s before received_at: a clock was wrong"]
    [remark] = _remarks(0, 15 * DAY)
    assert remark.startswith("recorded_at is 1296000 s after received_at, longer than SQS keeps")
    assert len(_remarks(-301, -2 * DAY)) == 2


def test_tolerance_is_configurable() -> None:
    assert _remarks(-301, 0, 301) == []
    assert len(_remarks(-2, -2, 1)) == 2


@pytest.mark.parametrize("value", [None, "", "soon", 12, b"x", "2026-11-22T10:00:00"])
def test_value_that_is_not_a_time_is_not_compared(value: Any) -> None:
    item = _item(0, -2 * DAY)
    assert len(verify_record(item, policy(), content=CONTENT).remarks) == 1
    [remark] = verify_record({**item, "received_at": value}, policy(), content=CONTENT).remarks
    assert remark.startswith("recorded_at is 172800 s before accepted_at")
    changed = {**item, "received_at": value, "recorded_at": value}
    assert verify_record(changed, policy(), content=CONTENT).remarks == []


def test_replay_may_be_later_than_sqs_keeps_a_message() -> None:
    origin = replace(ORIGIN, replayed_at=START + timedelta(days=20))
    recorded_at = START + timedelta(days=20, seconds=1)
    item = build_item(acceptance(), TEXT, origin, recorded_at=recorded_at)
    assert verify_record(item, policy(), content=CONTENT).remarks == []
    early = build_item(acceptance(), TEXT, origin, recorded_at=START + timedelta(days=19))
    assert verify_record(early, policy(), content=CONTENT).remarks == [
        "recorded_at is 86400 s before replayed_at: a clock was wrong"
    ]


@pytest.mark.parametrize(
    ("published", "remark"),
    [
        (
            policy(published_at=START + timedelta(hours=1)),
            "3660 s before the version was published",
        ),
        (
            policy(effective_at=START + timedelta(days=1)),
            "86460 s before the version became effective",
        ),
        (policy(retired_at=START - timedelta(hours=1)), "3540 s after the version was retired"),
        (policy(retired_at=START + timedelta(hours=1)), ""),
    ],
    ids=["unpublished", "not effective", "retired", "retired later"],
)
def test_acceptance_outside_the_time_of_the_version_has_a_remark(
    published: Policy, remark: str
) -> None:
    item = build_item(acceptance(), TEXT, ORIGIN, recorded_at=START)
    verification = verify_record(item, published, content=CONTENT)
    assert verification.remarks == ([f"accepted_at is {remark}"] if remark else [])
    assert verification.sound


def test_edit_has_a_remark() -> None:
    edit = Edit("2026-11-22T10:00:00Z", "eve", ("user_id", "version"))
    item = build_item(acceptance(), TEXT, replace(ORIGIN, edits=(edit,)), recorded_at=START)
    assert verify_record(item, policy(), content=CONTENT).remarks == [
        "edited by eve on 22 November 2026 at 10:00:00 UTC: user_id, version"
    ]


def test_text_that_is_not_stored_has_a_remark() -> None:
    verification = verify_record(_item(), policy())
    assert verification.remarks == ["the accepted text is not stored here, only its hash"]
    assert verification.verdict is Verdict.SOUND_WITH_REMARKS
    assert not verification.result()["text_stored"]


def test_text_with_another_hash_is_an_alteration() -> None:
    verification = verify_record(_item(), policy(), content=TextContent(b"x", "text/plain"))
    assert verification.problems == ["the text does not have the hash in the record"]
    assert verification.verdict is Verdict.ALTERED


@pytest.mark.parametrize(
    ("published", "check"),
    [
        (policy(), TextCheck.MATCHES),
        (policy(content_sha256="0" * 64), TextCheck.DIFFERS),
        (
            policy(content_sha256="0" * 64).model_copy(
                update={"texts": (PolicyText(TEXT.sha256, "es"),)}
            ),
            TextCheck.MATCHES,
        ),
        (None, TextCheck.NOT_PUBLISHED),
    ],
)
def test_accepted_text_is_compared_with_the_published_ones(
    published: Policy | None, check: TextCheck
) -> None:
    verification = verify_record(_item(), published, content=CONTENT)
    assert verification.text is check
    assert verification.sound == (check is TextCheck.MATCHES)


def test_record_of_format_1_has_the_hash_that_the_application_stated() -> None:
    assert accepted_sha256({"content_sha256": "AB" * 32}) == "ab" * 32
    assert accepted_sha256({}) is None
    assert verify_record({}, policy()).text is TextCheck.NOT_STATED
