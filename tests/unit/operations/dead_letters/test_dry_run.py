"""A dry run predicts what the worker would do, and reads each policy version once."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.fakes import ABSENT, TEXT_SHA256, body, clock, policy
from worker.domain.policy import Policy
from worker.errors import AWSDeniedError
from worker.operations.dead_letters.dry_run import SUCCEEDS, UNCHECKED, DryRun


class _Policies:
    """Policies with one published version; counts the reads."""

    def __init__(self) -> None:
        self.reads: Counter[tuple[str, str]] = Counter()
        self.denied = False

    async def policy(self, policy_id: str, version: str) -> Policy | None:
        self.reads[policy_id, version] += 1
        if self.denied:
            raise AWSDeniedError("GetItem: denied")
        return policy() if (policy_id, version) == ("acceptable-use", "2026-01") else None


def _dry_run(policies: _Policies) -> DryRun:
    return DryRun(policies.policy, clock_skew_seconds=300, now=clock)


@pytest.mark.parametrize(
    ("text", "code", "detail"),
    [
        (body(1), SUCCEEDS, ""),
        (body(1, content_sha256=TEXT_SHA256.upper()), SUCCEEDS, ""),
        (body(1, content_sha256=ABSENT), SUCCEEDS, ""),
        (body(1, version="2026-02"), "unknown_policy", "has no published version 2026-02"),
        (body(1, content_sha256="0" * 64), "content_mismatch", "was published with"),
        (body(1, user_id=""), "invalid", "user_id"),
        ("{", "malformed", "not JSON"),
    ],
)
async def test_outcome_follows_from_the_body_and_the_published_policies(
    text: str, code: str, detail: str
) -> None:
    verdict = await _dry_run(_Policies()).check(text)
    assert verdict.code == code
    assert detail in verdict.detail


async def test_each_version_is_read_once_whether_it_is_published_or_not() -> None:
    policies = _Policies()
    dry_run = _dry_run(policies)
    for number in range(5):
        await dry_run.check(body(number))
        await dry_run.check(body(number, version="2026-02"))
    assert set(policies.reads.values()) == {1}
    assert len(policies.reads) == 2


async def test_policies_that_cannot_be_read_are_reported_and_not_read_again() -> None:
    policies = _Policies()
    policies.denied = True
    dry_run = _dry_run(policies)
    verdicts = [await dry_run.check(body(1, version=str(each))) for each in range(3)]
    assert {verdict.code for verdict in verdicts} == {UNCHECKED}
    assert (await dry_run.check("{")).code == "malformed"
    assert dry_run.error == "GetItem: denied"
    assert policies.reads.total() == 1
