"""What the doctor says of tables, and of what it may do with them."""

from __future__ import annotations

from typing import Any

import pytest

from worker.errors import AWSDeniedError, AWSNotFoundError, AWSUnavailableError
from worker.operations.doctor import tables
from worker.operations.doctor.result import CheckResult, Verdict
from worker.repository.inspection import TableState

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.UNKNOWN
GOOD: dict[str, Any] = {
    "name": "users",
    "status": "ACTIVE",
    "keys": (("user_id", "S"), ("policy_version", "S")),
    "write_units": None,
    "is_deletion_protected": True,
}


def _by_check(**changes: Any) -> dict[str, CheckResult]:
    state = TableState(**(GOOD | changes))
    findings = tables.of_table(tables.ACCEPTANCES, state, tables.USER_KEYS)
    return {each.check: each for each in findings}


def test_a_good_table_passes_every_check() -> None:
    findings = _by_check()
    assert {each.verdict for each in findings.values()} == {PASS}
    assert list(findings) == [
        "acceptances",
        "acceptances: keys",
        "acceptances: billing",
        "acceptances: deletion protection",
    ]


@pytest.mark.parametrize(
    ("changes", "check", "verdict", "words"),
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
            "what became of its key",
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
def test_what_is_not_as_it_should_be_is_told_with_its_remedy(
    changes: dict[str, Any], check: str, verdict: Verdict, words: str
) -> None:
    finding = _by_check(**changes)[check]
    assert finding.verdict is verdict
    assert words in f"{finding.found} {finding.remedy}"
    assert bool(finding.remedy) == (verdict is not PASS)


@pytest.mark.parametrize(
    ("outcome", "verdict", "words"),
    [
        (True, PASS, "any moment"),
        (False, WARN, "enable point-in-time recovery"),
        (AWSDeniedError("AccessDenied: no"), UNKNOWN, "a role that may"),
        (AWSUnavailableError("UnknownOperationException: what?"), UNKNOWN, "this server"),
    ],
)
def test_recovery_is_told_where_somebody_tells(outcome: Any, verdict: Verdict, words: str) -> None:
    finding = tables.recovery(tables.POLICIES, outcome)
    assert (finding.check, finding.verdict) == ("policies: recovery", verdict)
    assert words in f"{finding.found} {finding.remedy}"


def test_a_table_that_is_absent_fails_and_one_that_only_we_may_not_describe_does_not() -> None:
    absent = tables.unseen("policies", "AUP_TABLE_NAME", AWSNotFoundError("ResourceNotFound: x"))
    assert (absent.verdict, "AUP_TABLE_NAME" in absent.remedy) == (FAIL, True)
    denied = AWSDeniedError(
        "DescribeTable t: AccessDeniedException: User: arn:aws:iam::1:user/w is not authorized to "
        "perform: dynamodb:DescribeTable on resource: arn:aws:dynamodb:::table/t because no "
        "identity-based policy allows it; grant the permissions that the README lists"
    )
    finding = tables.unseen("policies", "AUP_TABLE_NAME", denied)
    assert finding.verdict is UNKNOWN
    assert finding.found == (
        "DescribeTable t: AccessDeniedException: because no identity-based policy allows it"
    )
