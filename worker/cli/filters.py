"""The options by which verbs choose dead letters."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from worker.domain.acceptance import parse_time
from worker.errors import Reason, UsageError
from worker.operations.dead_letters.dead_letter import UNEXPLAINED
from worker.operations.dead_letters.filter import DeadLetterFilter


def complete_reason(incomplete: str) -> list[str]:
    """Complete a reason of dead letters."""
    known = [*(reason.value for reason in Reason), UNEXPLAINED]
    return [each for each in known if each.startswith(incomplete)]


Reasons = Annotated[
    list[str] | None,
    typer.Option(
        "--reason", metavar="REASON", autocompletion=complete_reason, help="Only these; repeatable."
    ),
]
Users = Annotated[
    list[str] | None,
    typer.Option("--user", metavar="USER", help="Only of these users; repeatable."),
]
Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", metavar="POLICY", help="Only of these policies; repeatable."),
]
Versions = Annotated[
    list[str] | None,
    typer.Option("--version", metavar="VERSION", help="Only of these versions; repeatable."),
]
Since = Annotated[
    str | None,
    typer.Option(
        metavar="WHEN", help="Only what died since: 2026-11-22T10:00:00Z, or an age such as 2h, 3d."
    ),
]
Until = Annotated[
    str | None, typer.Option(metavar="WHEN", help="Only what died before: a time or an age.")
]
Grep = Annotated[
    str | None,
    typer.Option(
        metavar="REGEX",
        help="Only where this regular expression is found in body, detail or attributes.",
    ),
]
Limit = Annotated[int | None, typer.Option(metavar="COUNT", min=1, help="How many at most.")]

_AGE: Final = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|min|m|h|d|w)", re.ASCII)
_UNITS_SECONDS: Final = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def choice(  # noqa: PLR0913 - one parameter an option
    *,
    ids: Collection[str] | None = None,
    reasons: Collection[str] | None = None,
    users: Collection[str] | None = None,
    policies: Collection[str] | None = None,
    versions: Collection[str] | None = None,
    since: str | None = None,
    until: str | None = None,
    grep: str | None = None,
    limit: int | None = None,
) -> DeadLetterFilter:
    """Put the options together, each as the command line gave it; see `DeadLetterFilter`.

    Raises:
        UsageError: a time or the regular expression cannot be read.
    """
    now = datetime.now(UTC)
    return DeadLetterFilter(
        ids=frozenset(ids or ()),
        reasons=frozenset(reasons or ()),
        users=frozenset(users or ()),
        policies=frozenset(policies or ()),
        versions=frozenset(versions or ()),
        since=None if since is None else moment("--since", since, now),
        until=None if until is None else moment("--until", until, now),
        grep=None if grep is None else _pattern(grep),
        limit=limit,
    )


def moment(option: str, text: str, now: datetime) -> datetime:
    """Read a point in time: RFC 3339, or how long ago.

    Args:
        option: its name, for the error.
        text: such as 2026-11-22T10:00:00Z, 90s, 15min, 2h, 3d, 1w.
        now: what ages count from, aware.

    Raises:
        UsageError: it is neither.
    """
    age = _AGE.fullmatch(text.strip())
    try:
        if age is None:
            return parse_time(text.strip())
        return now - timedelta(seconds=float(age[1]) * _UNITS_SECONDS[age[2]])
    except (ValueError, OverflowError):
        raise UsageError(
            f"{option} {text}: neither a time such as 2026-11-22T10:00:00Z "
            "nor an age such as 90s, 15min, 2h, 3d"
        ) from None


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--grep {text}: no regular expression: {error}") from None
