"""Checks of settings against each other."""

from __future__ import annotations

from tests.unit.fakes import aws_settings, settings
from worker.operations.doctor.relations import relations
from worker.operations.doctor.result import CheckStatus


def test_default_settings_pass() -> None:
    assert {each.status for each in relations(settings())} == {CheckStatus.PASS}


def test_caching_a_missing_policy_for_longer_than_its_messages_wait_is_a_warning() -> None:
    cached = settings(aws=aws_settings(policy_absence_seconds=60))
    (warning,) = [each for each in relations(cached) if each.status is not CheckStatus.PASS]
    assert warning.status is CheckStatus.WARN
    assert "AUP_POLICY_ABSENCE_SECONDS" in warning.remedy
