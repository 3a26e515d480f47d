"""SQS time, estimated without this host's clock."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import structlog

from worker.domain.message import ReceivedMessage

_log: Final = structlog.get_logger()
_LOG_INTERVAL_SECONDS: Final = 60.0
# Date headers hold whole seconds, and a response takes a while to arrive.
_PRECISION_SECONDS: Final = 10.0
# AWS rejects requests whose signing time differs from its own by more than 15 minutes.
_PLAUSIBLE_SECONDS: Final = 3600.0
# Value of a timestamp that SQS did not return.
_UNKNOWN: Final = datetime.fromtimestamp(0, UTC)


class SQSClock:
    """SQS time, taken from its responses and advanced by the monotonic clock.

    The timestamps of a received message and the Date header of its response are times that the
    SQS clock has passed. The latest of them, advanced, is a lower bound of SQS time. It is exact
    (to seconds) after the first Date header or first receive of a message. This host's clock is
    only compared with it, because a wrong host clock must not cause irreversible outcomes.

    Args:
        now: Returns this host's time, aware.
        clock: Returns monotonic seconds.
        tolerance_seconds: Largest difference of clocks that agree.

    Attributes:
        passed: A time that the SQS clock has passed, aware; at most seconds ago under load.
    """

    def __init__(
        self, now: Callable[[], datetime], clock: Callable[[], float], tolerance_seconds: float
    ) -> None:
        self.passed = _UNKNOWN
        self._host_now = now
        self._clock = clock
        self._tolerance_seconds = max(tolerance_seconds, _PRECISION_SECONDS)
        # SQS time in seconds since 1970, minus the monotonic clock.
        self._offset = -clock()
        self._exact = False
        self._date = ""
        self._learned_at = float("-inf")
        self._logged_at = float("-inf")

    def learn(self, message: ReceivedMessage) -> None:
        """Correct the estimate by a message that has just been received."""
        date = message.date
        at = self._clock()
        if self._exact and date == self._date and at - self._learned_at < 1.0:
            return  # under load many messages share a second
        self._date, self._learned_at = date, at
        passed = max(message.first_received_at, message.sent_at).timestamp() - at
        is_first = (
            message.receive_count == 1 and _UNKNOWN < message.sent_at <= message.first_received_at
        )
        stated = self._confirmed(date, passed, at, is_first=is_first)
        latest = passed if stated is None else max(passed, stated)
        known = self._offset
        if stated is None and not is_first:
            self._offset = max(latest, known)
        else:
            close = self._exact and latest <= known <= latest + _PRECISION_SECONDS
            self._offset = known if close else latest
            self._exact = True
        self.passed = datetime.fromtimestamp(self._offset + at, UTC)
        self._warn(at)

    def _confirmed(self, date: str, passed: float, at: float, *, is_first: bool) -> float | None:
        """Return the offset that a Date header states, unless all other evidence contradicts it."""
        seconds = date_seconds(date)
        if seconds is None or seconds - at < passed - _PRECISION_SECONDS:
            return None
        stated, host = seconds - at, self._host_now().timestamp() - at
        witnesses = [host]
        if is_first:
            witnesses.append(passed)
        if self._exact:
            witnesses.append(self._offset)
        if any(abs(stated - each) <= _PRECISION_SECONDS for each in witnesses):
            return stated
        if is_first or self._exact:
            return None
        # Only this host's clock contradicts it, by less than AWS accepts, or that clock is wrong.
        plausible = abs(stated - host) <= _PLAUSIBLE_SECONDS or host < passed - _PRECISION_SECONDS
        return stated if plausible else None

    def now(self) -> datetime:
        """Return SQS time, or a lower bound of it."""
        return datetime.fromtimestamp(self._offset + self._clock(), UTC)

    @property
    def problem(self) -> str:
        """How the clocks contradict each other; empty if no contradiction is known."""
        ahead = self._ahead_seconds()
        if abs(ahead) <= self._tolerance_seconds or (ahead > 0 and not self._exact):
            return ""
        direction = "ahead of" if ahead > 0 else "behind"
        return f"this host's clock is {abs(ahead):.0f} s {direction} SQS time; synchronise it"

    @property
    def uncertainty(self) -> str:
        """Why a time cannot be verified now; empty if both clocks agree."""
        return self.problem or ("" if self._exact else "SQS time is not known yet")

    def _ahead_seconds(self) -> float:
        return self._host_now().timestamp() - self._offset - self._clock()

    def _warn(self, at: float) -> None:
        if at - self._logged_at >= _LOG_INTERVAL_SECONDS and (problem := self.problem):
            self._logged_at = at
            _log.warning("clocks differ", problem=problem)


def date_seconds(header: str) -> float | None:
    """Return the time of a Date header.

    Returns:
        Seconds since 1970, rounded down by the server; None if the header holds no time.
    """
    try:
        moment = parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
