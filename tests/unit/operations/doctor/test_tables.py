"""Checks of tables."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import AWSDeniedError, AWSNotFoundError, AWSUnavailableError
from worker.operations.doctor import tables
from worker.operations.doctor.result import CheckResult, CheckStatus
from worker.repository.inspection import TableState

PASS, WARN, FAIL, UNKNOWN = (
    CheckStatus.PASS,
    CheckStatus.WARN,
    CheckStatus.FAIL,
    CheckStatus.UNKNOWN,
)
GOOD: dict[str, Any] = {
    "name": "users",
    "status": "ACTIVE",
    "keys": (("user_id", "S"), ("policy_version", "S")),
    "write_units": None,
    "is_deletion_protected": True,
}


def _by_check(**changes: Any) -> dict[str, CheckResult]:
    state = TableState(**(GOOD | changes))
    results = tables.of_table(tables.ACCEPTANCES, state)
    return {each.check: each for each in results}


def test_valid_table_passes_every_check() -> None:
    results = _by_check()
    assert {each.status for each in results.values()} == {PASS}
    assert list(results) == [
        "acceptances",
        "acceptances: keys",
        "acceptances: billing",
        "acceptances: deletion protection",
    ]


@pytest.mark.parametrize(
    ("changes", "check", "status", "words"),
    [
        ({"status": "UPDATING"}, "acceptances", PASS, "UPDATING"),
        (
            {"kms_key": "arn:aws:kms:eu-west-1:1:key/k"},
            "acceptances",
            PASS,
            "needs kms:Decrypt on arn:aws:kms:eu-west-1:1:key/k",
        ),
        ({"status": "CREATING"}, "acceptances", FAIL, "wait until it is ACTIVE"),
        (
            {"status": "INACCESSIBLE_ENCRYPTION_CREDENTIALS"},
            "acceptances",
            FAIL,
            "check its KMS key",
        ),
        ({"keys": (("user_id", "S"),)}, "acceptances: keys", FAIL, "policy_version (S)"),
        (
            {"keys": (("user_id", "S"), ("policy_version", "N"))},
            "acceptances: keys",
            FAIL,
            "policy_version (N)",
        ),
        ({"write_units": 5}, "acceptances: billing", WARN, "5 write units"),
        (
            {"is_deletion_protected": False},
            "acceptances: deletion protection",
            WARN,
            "DeletionProtectionEnabled",
        ),
    ],
)
def test_result_has_a_remedy_unless_it_passed(
    changes: dict[str, Any], check: str, status: CheckStatus, words: str
) -> None:
    result = _by_check(**changes)[check]
    assert result.status is status
    assert words in f"{result.found} {result.remedy}"
    assert bool(result.remedy) == (status is not PASS)


@pytest.mark.parametrize(
    ("outcome", "status", "words"),
    [
        (True, PASS, "point-in-time recovery is on"),
        (False, WARN, "enable point-in-time recovery"),
        (AWSDeniedError("AccessDenied: no"), UNKNOWN, "a role with this permission"),
        (AWSUnavailableError("UnknownOperationException: what?"), UNKNOWN, "this server"),
    ],
)
def test_recovery_is_unknown_if_it_cannot_be_read(
    outcome: Any, status: CheckStatus, words: str
) -> None:
    result = tables.recovery(tables.POLICIES, outcome)
    assert (result.check, result.status) == ("policies: recovery", status)
    assert words in f"{result.found} {result.remedy}"


def test_missing_table_fails_and_denied_description_is_unknown() -> None:
    missing = tables.not_described(tables.POLICIES, AWSNotFoundError("ResourceNotFound: x"))
    assert (missing.status, "AUP_TABLE_NAME" in missing.remedy) == (FAIL, True)
    denied = AWSDeniedError(
        "DescribeTable t: AccessDeniedException: User: arn:aws:iam::1:user/w is not authorized to "
        "perform: dynamodb:DescribeTable on resource: arn:aws:dynamodb:::table/t because no "
        "identity-based policy allows it; grant the permissions listed in infra/operations.md"
    )
    result = tables.not_described(tables.POLICIES, denied)
    assert result.status is UNKNOWN
    assert result.found == (
        "DescribeTable t: AccessDeniedException: because no identity-based policy allows it"
    )
