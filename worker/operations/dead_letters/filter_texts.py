"""Filters of dead letters as an operator types them."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.domain.acceptance import parse_time
from worker.errors import UsageError
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.runtime.clock import utc_now

_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|min|m|h|d|w)", re.ASCII)
_UNITS_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterTexts:
    """Texts of a filter; the order of the fields is part of the digest of a replay's request.

    Attributes:
        reason: Reason codes.
        user: Users named in the body.
        policy: Policies named in the body.
        version: Policy versions named in the body.
        since: Start time, inclusive: a time or an age.
        until: End time, exclusive: a time or an age.
        grep: Regular expression to find in the body, the detail or an attribute.
        limit: Maximum number of dead letters.
    """

    reason: list[str] | None = None
    user: list[str] | None = None
    policy: list[str] | None = None
    version: list[str] | None = None
    since: str | None = None
    until: str | None = None
    grep: str | None = None
    limit: int | None = None

    def dead_letter_filter(self, ids: Collection[str] = ()) -> DeadLetterFilter:
        """Return the filter that these texts describe.

        Args:
            ids: Message ids to select; all if empty.

        Raises:
            UsageError: A time or the regular expression is invalid.
        """
        now = utc_now()
        return DeadLetterFilter(
            ids=frozenset(ids),
            reasons=frozenset(self.reason or ()),
            users=frozenset(self.user or ()),
            policies=frozenset(self.policy or ()),
            versions=frozenset(self.version or ()),
            since=None if self.since is None else parse_moment("--since", self.since, now),
            until=None if self.until is None else parse_moment("--until", self.until, now),
            grep=None if self.grep is None else parse_pattern("--grep", self.grep),
            limit=self.limit,
        )


def parse_moment(name: str, text: str, now: datetime) -> datetime:
    """Parse a point in time.

    Args:
        name: Name of the option or field, for the error.
        text: RFC 3339 time such as 2026-11-22T10:00:00Z, or an age: 90s, 15min, 2h, 3d, 1w.
        now: Aware time from which an age is subtracted.

    Raises:
        UsageError: The text is neither a time nor an age.
    """
    age = _AGE.fullmatch(text.strip())
    try:
        if age is None:
            return parse_time(text.strip())
        return now - timedelta(seconds=float(age[1]) * _UNITS_SECONDS[age[2]])
    except (ValueError, OverflowError):
        raise UsageError(
            f"{name} {text}: expected a time such as 2026-11-22T10:00:00Z "
            "or an age such as 90s, 15min, 2h or 3d"
        ) from None


def parse_pattern(name: str, text: str) -> re.Pattern[str]:
    """Parse a regular expression.

    Args:
        name: Name of the option or field, for the error.
        text: Regular expression of Python.

    Raises:
        UsageError: It is invalid.
    """
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"{name} {text}: invalid regular expression: {error}") from None
