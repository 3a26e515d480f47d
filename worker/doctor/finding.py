"""What a check finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.errors import AWSDeniedError, AWSError, AWSThrottledError, AWSUnavailableError

_GRANT: Final = "ask with a role that may, or look by hand"


class Verdict(StrEnum):
    """What a finding means for the service."""

    PASS = "pass"  # noqa: S105 - no password
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "cannot tell"


@dataclass(frozen=True, slots=True)
class Finding:
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


def passed(check: str, found: str) -> Finding:
    """Say that something is as it should be."""
    return Finding(check, Verdict.PASS, found)


def warned(check: str, found: str, remedy: str) -> Finding:
    """Say that the service works, but not as well as it could."""
    return Finding(check, Verdict.WARN, found, remedy)


def failed(check: str, found: str, remedy: str) -> Finding:
    """Say that the service cannot work, or loses something."""
    return Finding(check, Verdict.FAIL, found, remedy)


def unknown(check: str, found: str, remedy: str) -> Finding:
    """Say that nobody tells."""
    return Finding(check, Verdict.UNKNOWN, found, remedy)


def unanswered(check: str, error: AWSError, *, remedy: str, needed: bool = True) -> Finding:
    """Say what it means that a question to AWS ended with an error.

    Args:
        check: what was looked at.
        error: how it ended.
        remedy: what helps where it is to be mended.
        needed: whether the service asks this too; what only we ask may be denied.
    """
    if isinstance(error, AWSThrottledError | AWSUnavailableError):
        return unknown(check, str(error), "try again; it is AWS that does not answer")
    if isinstance(error, AWSDeniedError) and not needed:
        return unknown(check, str(error).partition("; grant")[0], _GRANT)
    return failed(check, str(error).partition("; grant")[0], remedy)
