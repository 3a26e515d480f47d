"""Tests that the template's rules keep or restore the good release when the new one is bad."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.infra.stacks import resources, template
from tests.scaling.deployment import LIMIT_SECONDS, RELEASES, Release, deploy, rules

RULES = rules()
GOOD, *BAD = RELEASES
NEVER_STARTED = [release for release in BAD if release.starts_after is None]
STARTED = [release for release in BAD if release.starts_after is not None]
SIZES = (1, 2, 10, 100)


def title(release: Release) -> str:
    return release.title


@pytest.mark.parametrize("desired", SIZES)
def test_good_release_replaces_the_old_one(desired: int) -> None:
    outcome = deploy(GOOD, RULES, desired)
    assert outcome is not None
    assert outcome.failed_by is None
    assert outcome.good_tasks == 0
    assert outcome.seconds < 30 * 60


@pytest.mark.parametrize("desired", SIZES)
@pytest.mark.parametrize("counts_exits", [True, False])
@pytest.mark.parametrize("release", NEVER_STARTED, ids=title)
def test_release_that_never_starts_replaces_no_task_and_is_rolled_back(
    release: Release, *, counts_exits: bool, desired: int
) -> None:
    outcome = deploy(release, replace(RULES, counts_exits=counts_exits), desired)
    assert outcome is not None
    assert outcome.failed_by
    assert outcome.good_tasks == desired


@pytest.mark.parametrize("desired", SIZES)
@pytest.mark.parametrize("release", STARTED, ids=title)
def test_release_that_starts_and_then_fails_is_rolled_back_by_an_alarm(
    release: Release, desired: int
) -> None:
    outcome = deploy(release, RULES, desired)
    assert outcome is not None
    assert outcome.failed_by in RULES.alarms
    assert outcome.seconds < 20 * 60


def test_release_that_neither_starts_nor_exits_fails_its_health_check() -> None:
    hanging = Release("hangs", starts_after=None, exits_after=LIMIT_SECONDS)
    outcome = deploy(hanging, replace(RULES, alarms={}))
    assert outcome is not None
    assert (outcome.failed_by, outcome.good_tasks) == ("circuit breaker", 2)


def test_liveness_alone_would_replace_the_good_release() -> None:
    outcome = deploy(NEVER_STARTED[-1], replace(RULES, requires_start=False, alarms={}))
    assert outcome is not None
    assert (outcome.failed_by, outcome.good_tasks) == (None, 0)


@pytest.mark.parametrize("release", STARTED, ids=title)
def test_circuit_breaker_alone_would_keep_a_release_that_fails_after_its_start(
    release: Release,
) -> None:
    outcome = deploy(release, replace(RULES, alarms={}))
    assert outcome is not None
    assert outcome.failed_by is None


def test_start_period_covers_the_time_until_a_worker_gives_up() -> None:
    parameters = template("service")["Parameters"]
    longest = parameters["GiveUpSeconds"]["MaxValue"]
    # The process itself starts within a minute; 300 is the maximum of ECS.
    assert longest + 60 <= RULES.start_period <= 300


def test_deployment_alarms_exist_before_the_service() -> None:
    alarms = resources("service", "AWS::CloudWatch::Alarm")
    assert set(RULES.alarms) == set(alarms)
    for name, alarm in alarms.items():
        # Without data nothing is rolled back; the old tasks write the same metrics.
        assert alarm["TreatMissingData"] == "notBreaching", name
