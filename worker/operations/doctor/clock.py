"""This machine's clock against AWS's."""

from __future__ import annotations

from typing import Final

from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned

_GOOD_SECONDS: Final = 5.0
# AWS General Reference, "Signature Version 4": a signature is good for five minutes.
_REFUSED_SECONDS: Final = 300.0
_MEND: Final = "synchronise it (chrony, systemd-timesyncd, the host's)"


def clock(offset_seconds: float | None, tolerance_seconds: float) -> CheckResult:
    """Check how far this host's clock is from AWS's.

    Args:
        offset_seconds: how far it is ahead; None if no response stated the time.
        tolerance_seconds: AUP_CLOCK_SKEW_SECONDS.
    """
    if offset_seconds is None:
        return unknown("clock", "no answer of AWS told the time", "see the endpoints")
    direction = "ahead of" if offset_seconds > 0 else "behind"
    how = f"{abs(offset_seconds):.0f} s {direction} AWS's"
    if abs(offset_seconds) >= _REFUSED_SECONDS:
        return failed("clock", f"{how}: AWS refuses what is signed at another time", _MEND)
    if abs(offset_seconds) > max(tolerance_seconds, 2 * _GOOD_SECONDS):
        how += ", more than AUP_CLOCK_SKEW_SECONDS"
        return failed("clock", f"{how}: the worker will not be ready", _MEND)
    if abs(offset_seconds) > _GOOD_SECONDS:
        return warned("clock", f"{how}: so is every recorded_at in the evidence", _MEND)
    return passed("clock", f"within {_GOOD_SECONDS:.0f} s of AWS's")
