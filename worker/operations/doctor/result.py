"""Results of checks."""

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

_ERROR_MAX_CHARACTERS: Final = 200
# The identity check names the caller, and the name of the check names the action.
_CALLER: Final = re.compile(r"User: \S+ is not authorized to perform: \S+(?: on resource: \S+)? ?")


class CheckStatus(StrEnum):
    """Status of a check.

    Attributes:
        PASS: as it should be.
        WARN: the service works, but not as well as it could.
        FAIL: the service cannot work, or messages get lost.
        UNKNOWN: the check could not be made.
    """

    PASS = "pass"  # noqa: S105 - not a password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "cannot tell"  # the value in --json, kept for its readers


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Result of one check.

    Attributes:
        check: name of the check.
        status: pass, warn, fail or unknown.
        found: the current state, in one line.
        remedy: what to do; empty if the check passed.
        prevents_start: whether the service refuses to start with this result.
    """

    check: str
    status: CheckStatus
    found: str
    remedy: str = ""
    prevents_start: bool = False

    def __str__(self) -> str:
        """Return the result as one line: check, state and remedy."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.check}: {self.found}{remedy}"


def passed(check: str, found: str) -> CheckResult:
    """Return the result of a check that passed."""
    return CheckResult(check, CheckStatus.PASS, found)


def warned(check: str, found: str, remedy: str) -> CheckResult:
    """Return a warning: the service works, but not as well as it could."""
    return CheckResult(check, CheckStatus.WARN, found, remedy)


def failed(check: str, found: str, remedy: str, *, prevents_start: bool = False) -> CheckResult:
    """Return a failure: the service cannot work, or messages get lost."""
    return CheckResult(check, CheckStatus.FAIL, found, remedy, prevents_start)


def unknown(check: str, found: str, remedy: str) -> CheckResult:
    """Return the result of a check that could not be made."""
    return CheckResult(check, CheckStatus.UNKNOWN, found, remedy)


def from_error(check: str, error: AWSError, *, remedy: str, needed: bool = True) -> CheckResult:
    """Return the result of a check whose call to AWS failed.

    Args:
        check: name of the check.
        error: the error of the call.
        remedy: what to do if the check fails.
        needed: whether the service makes this call too; a call that only `doctor` makes may be
            denied.
    """
    text, advice, key = str(error).partition(f"{KMS_ADVICE}kms:")
    found = _CALLER.sub("", text.partition("; grant")[0])
    if len(found) > _ERROR_MAX_CHARACTERS:
        found = f"{found[:_ERROR_MAX_CHARACTERS]}…"
    if isinstance(error, AWSThrottledError | AWSUnavailableError):
        return unknown(check, found, "check the endpoint and try again")
    if isinstance(error, AWSUnsupportedError) and not needed:
        return unknown(check, found, "check that the endpoint belongs to this service")
    if advice:
        return failed(check, found, f"allow kms:{key}")
    if isinstance(error, AWSDeniedError) and not needed:
        return unknown(check, found, "use a role with this permission, or check manually")
    return failed(check, found, remedy)
