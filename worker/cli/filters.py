"""Options that select dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from worker.errors import Reason
from worker.operations.dead_letters.dead_letter import UNEXPLAINED
from worker.operations.dead_letters.filter_texts import FilterTexts


def complete_reason(incomplete: str) -> list[str]:
    """Return the reasons that complete a prefix."""
    known = [*(reason.value for reason in Reason), UNEXPLAINED]
    return [each for each in known if each.startswith(incomplete)]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterOptions(FilterTexts):
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
