"""Options that select dead letters."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Final

import typer

from worker.domain.acceptance import parse_time
from worker.errors import Reason, UsageError
from worker.operations.dead_letters.dead_letter import UNEXPLAINED
from worker.operations.dead_letters.filter import DeadLetterFilter
from worker.runtime.clock import utc_now

_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|min|m|h|d|w)", re.ASCII)
_UNITS_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def complete_reason(incomplete: str) -> list[str]:
    """Return the reasons that complete a prefix."""
    known = [*(reason.value for reason in Reason), UNEXPLAINED]
    return [each for each in known if each.startswith(incomplete)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions:
    """Filter options as typed on the command line; see `expand_options`."""

    reason: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON",
            autocompletion=complete_reason,
            help="Dead-letter reason; repeatable.",
        ),
    ] = None
    user: Annotated[list[str] | None, typer.Option(metavar="USER", help="User id; repeatable.")] = (
        None
    )
    policy: Annotated[
        list[str] | None, typer.Option(metavar="POLICY", help="Policy id; repeatable.")
    ] = None
    version: Annotated[
        list[str] | None, typer.Option(metavar="VERSION", help="Policy version; repeatable.")
    ] = None
    since: Annotated[
        str | None,
        typer.Option(
            metavar="WHEN",
            help="Start time (inclusive): 2026-11-22T10:00:00Z, or an age such as 2h or 3d.",
        ),
    ] = None
    until: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="End time (exclusive): a time or an age."),
    ] = None
    grep: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX",
            help="Regular expression to find in the body, detail or attributes.",
        ),
    ] = None
    limit: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, help="Maximum number of dead letters.")
    ] = None

    def dead_letter_filter(self, ids: Collection[str] = ()) -> DeadLetterFilter:
        """Return the filter that these options describe.

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
            grep=None if self.grep is None else _compile(self.grep),
            limit=self.limit,
        )


def parse_moment(option: str, text: str, now: datetime) -> datetime:
    """Parse a point in time.

    Args:
        option: Name of the option, for the error.
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
            f"{option} {text}: expected a time such as 2026-11-22T10:00:00Z "
            "or an age such as 90s, 15min, 2h or 3d"
        ) from None


def _compile(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--grep {text}: invalid regular expression: {error}") from None
