"""What a check finds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.aws.error_codes import KMS_ADVICE
from worker.errors import (
    AWSDeniedError,
    AWSError,
    AWSThrottledError,
    AWSUnavailableError,
    AWSUnsupportedError,
)

_TOLD_MAX_CHARACTERS: Final = 200
# Another finding says who asks, and the check says for what.
_WHO: Final = re.compile(r"User: \S+ is not authorized to perform: \S+(?: on resource: \S+)? ?")


class Verdict(StrEnum):
    """What a finding means for the service."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check found.

    Attributes:
        check: what was looked at.
        found: how it is, in a line.
        remedy: what to do about it; empty where nothing is to be done.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def passed(check: str, found: str) -> CheckResult:
    """Say that something is as it should be."""
    return CheckResult(check, Verdict.PASS, found)


def warned(check: str, found: str, remedy: str) -> CheckResult:
    """Say that the service works, but not as well as it could."""
    return CheckResult(check, Verdict.WARN, found, remedy)


def failed(check: str, found: str, remedy: str) -> CheckResult:
    """Say that the service cannot work, or loses something."""
    return CheckResult(check, Verdict.FAIL, found, remedy)


def unknown(check: str, found: str, remedy: str) -> CheckResult:
    """Say that nobody tells."""
    return CheckResult(check, Verdict.UNKNOWN, found, remedy)


def unanswered(check: str, error: AWSError, *, remedy: str, needed: bool = True) -> CheckResult:
    """Say what it means that a question to AWS ended with an error.

    Args:
        check: what was looked at.
        error: how it ended.
        remedy: what helps where it is to be mended.
        needed: whether the service asks this too; what only we ask may be denied.
    """
    text, advice, key = str(error).partition(f"{KMS_ADVICE}kms:")
    told = _WHO.sub("", text.partition("; grant")[0])
    told = told if len(told) <= _TOLD_MAX_CHARACTERS else f"{told[:_TOLD_MAX_CHARACTERS]}…"
    if isinstance(error, AWSThrottledError | AWSUnavailableError):
        return unknown(check, told, "see the endpoint, and try again")
    if isinstance(error, AWSUnsupportedError) and not needed:
        return unknown(check, told, "see whether the endpoint is that of the service")
    if advice:
        return failed(check, told, f"allow kms:{key}")
    if isinstance(error, AWSDeniedError) and not needed:
        return unknown(check, told, "ask with a role that may, or look by hand")
    return failed(check, told, remedy)
