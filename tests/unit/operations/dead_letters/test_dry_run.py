"""State that a forecast judges as the worker would, and asks once for each version."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.unit.fakes import ABSENT, TEXT_SHA256, body, clock, policy
from worker.domain.policy import Policy
from worker.errors import AWSDeniedError
from worker.operations.dead_letters.dry_run import SUCCEEDS, UNCHECKED, DryRun


class _Policies:
    """Publish one version; count the questions."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        self.denied = False

    async def policy(self, policy_id: str, version: str) -> Policy | None:
        self.asked[policy_id, version] += 1
        if self.denied:
            raise AWSDeniedError("GetItem: denied")
        return policy() if (policy_id, version) == ("acceptable-use", "2026-01") else None


def _forecast(policies: _Policies) -> DryRun:
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
async def test_a_body_is_judged_by_the_policies_of_now(text: str, code: str, detail: str) -> None:
    verdict = await _forecast(_Policies()).check(text)
    assert verdict.code == code
    assert detail in verdict.detail


async def test_each_version_is_asked_for_once_whether_it_is_published_or_not() -> None:
    policies = _Policies()
    forecast = _forecast(policies)
    for number in range(5):
        await forecast.check(body(number))
        await forecast.check(body(number, version="2026-02"))
    assert set(policies.asked.values()) == {1}
    assert len(policies.asked) == 2


async def test_where_policies_cannot_be_read_it_says_so_and_asks_no_more() -> None:
    policies = _Policies()
    policies.denied = True
    forecast = _forecast(policies)
    verdicts = [await forecast.check(body(1, version=str(each))) for each in range(3)]
    assert {verdict.code for verdict in verdicts} == {UNCHECKED}
    assert (await forecast.check("{")).code == "malformed"
    assert forecast.error == "GetItem: denied"
    assert policies.asked.total() == 1
