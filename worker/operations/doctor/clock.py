"""Check of the local clock against the clock of AWS."""

from __future__ import annotations

from typing import Final

from worker.operations.doctor.result import CheckResult, failed, passed, unknown, warned

_ACCURATE_SECONDS: Final = 5.0
# AWS General Reference, "Signature Version 4": a signature is valid for five minutes.
_SIGNATURE_SECONDS: Final = 300.0
_REMEDY: Final = "synchronize the clock of this host (chrony, systemd-timesyncd)"


def clock(offset_seconds: float | None, tolerance_seconds: float) -> CheckResult:
    """Check the offset between this host's clock and that of AWS.

    Args:
        offset_seconds: how far this host is ahead; None if no response had a date.
        tolerance_seconds: AUP_CLOCK_SKEW_SECONDS.
    """
    if offset_seconds is None:
        return unknown("clock", "no response from AWS had a date", "check the endpoints")
    direction = "ahead of" if offset_seconds > 0 else "behind"
    offset = f"{abs(offset_seconds):.0f} s {direction} AWS"
    if abs(offset_seconds) >= _SIGNATURE_SECONDS:
        return failed("clock", f"{offset}: AWS rejects the signature of every request", _REMEDY)
    if abs(offset_seconds) > max(tolerance_seconds, 2 * _ACCURATE_SECONDS):
        offset += ", more than AUP_CLOCK_SKEW_SECONDS"
        return failed("clock", f"{offset}: the service will not become ready", _REMEDY)
    if abs(offset_seconds) > _ACCURATE_SECONDS:
        return warned(
            "clock", f"{offset}: recorded_at in the evidence is wrong by as much", _REMEDY
        )
    return passed("clock", f"within {_ACCURATE_SECONDS:.0f} s of AWS")
