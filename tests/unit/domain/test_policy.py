"""Policy versions and the version in force."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import ValidationError

from tests.simulation.virtual_clock import START
from tests.unit.fakes import policy
from worker.domain.policy import in_force

_DAY = timedelta(days=1)


def test_version_is_in_force_from_its_start_to_its_end() -> None:
    version = policy(effective_at=START, retired_at=START + _DAY)
    assert not version.in_force_at(START - timedelta(seconds=1))
    assert version.in_force_at(START)
    assert version.in_force_at(START + _DAY - timedelta(seconds=1))
    assert not version.in_force_at(START + _DAY)


def test_version_without_an_end_stays_in_force() -> None:
    assert policy(effective_at=START).in_force_at(START + 10_000 * _DAY)


def test_version_that_became_effective_last_is_in_force() -> None:
    old, new, to_come = (
        policy(name, effective_at=START + days * _DAY)
        for name, days in (("1", -2), ("2", -1), ("3", 1))
    )
    assert in_force([new, to_come, old], START) == new
    assert in_force([new, to_come, old], START + 2 * _DAY) == to_come


def test_previous_version_is_in_force_after_retirement() -> None:
    old = policy("1", effective_at=START - 2 * _DAY)
    withdrawn = policy("2", effective_at=START - _DAY, retired_at=START)
    assert in_force([old, withdrawn], START) == old


def test_greater_name_is_in_force_for_equal_start_times() -> None:
    assert in_force([policy("b"), policy("c"), policy("a")], START) == policy("c")


def test_no_version_is_in_force_if_none_is_effective() -> None:
    assert in_force([], START) is None
    assert in_force([policy(effective_at=START + _DAY)], START) is None


def test_same_text_does_not_depend_on_the_publication_time() -> None:
    assert policy().same_text(policy(published_at=START, effective_at=START, retired_at=START))
    assert not policy().same_text(policy(title="Another"))
    assert not policy().same_text(policy(content_sha256="0" * 64))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("policy_id", "a#b"),
        ("policy_id", ""),
        ("version", "a\nb"),
        ("version", "x" * 65),
        ("content_sha256", "AB" * 32),
        ("content_sha256", "ab" * 31),
        ("title", "x" * 1025),
        ("effective_at", "2026-01-01T00:00:00"),
    ],
)
def test_policy_with_an_invalid_field_is_rejected(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        policy(**{field: value})
